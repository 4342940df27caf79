// The reference as a table.
#include "cpu/kernels/ref/ref.h"
#include "cpu/kernels/tables.h"

namespace nd::cpu {

constexpr Kernels ref_kernels = [] {
  Kernels table{};
  table.name = "ref";
  table.nr = ref::kPanelColumns;
  table.pack_panel = ref::pack_panel;
  table.gemm = ref::gemm;
  table.attention = {ref::attention_packed_floats, ref::attention_pack, ref::attention_scratch_floats,
                     ref::attention};
  table.channel_moments = ref::channel_moments;
  table.affine_rows = ref::affine_rows;
  table.layer_norm = ref::layer_norm;
  table.activate = ref::activate;
  table.add = ref::add;
  table.planar_to_rows = ref::planar_to_rows;
  table.rows_to_planar = ref::rows_to_planar;
  table.decoders = {ref::half_to_float, ref::bfloat16_to_float, ref::add_scaled_rows};
  table.bf16 = &ref_bf16;
  table.i8 = &ref_i8;
  return table;
}();

}  // namespace nd::cpu
