// The float32 kernels of one instruction set, as a table. The including file defines what prelude.inc.h
// wants.
#include "cpu/kernels/simd/prelude.inc.h"
#include "cpu/kernels/simd/elementwise.inc.h"
#include "cpu/kernels/simd/norm.inc.h"
#include "cpu/kernels/simd/gemm.inc.h"
#include "cpu/kernels/simd/attention.inc.h"
#include "cpu/kernels/simd/winograd.inc.h"

namespace nd::cpu::ND_ISA {
namespace {

constexpr Kernels make_table(const char* name) {
  Kernels table{};
  table.name = name;
  table.nr = kNr;
  table.pack_panel = pack_panel;
  table.gemm = gemm;
  table.attention = {attention_packed_floats, attention_pack, attention_scratch_floats, attention};
  table.channel_moments = channel_moments;
  table.affine_rows = affine_rows;
  table.layer_norm = layer_norm;
  table.activate = activate;
  table.add = add_all;
  table.planar_to_rows = planar_to_rows;
  table.rows_to_planar = rows_to_planar;
  table.decoders = {half_to_float, bfloat16_to_float, add_scaled_rows};
  table.winograd_input = winograd_input;
  table.winograd_output = winograd_output;
  return table;
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
