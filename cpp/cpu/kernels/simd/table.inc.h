// The whole set of kernels for one instruction set. The including file defines ND_ISA (a namespace), ND_VEC
// (the vector header) and ND_TILE_VECS (the header's kTileVecs, for the preprocessor). Everything has
// internal linkage: a function with external linkage that two instruction sets share would be merged by the
// linker, in either one's encoding. For the same reason nothing of the C++ standard library is used here.
#include "cpu/kernels/tables.h"

namespace nd::cpu::ND_ISA {
namespace {

#include ND_VEC
static_assert(kTileVecs == ND_TILE_VECS, "the preprocessor's copy of kTileVecs");

#include "cpu/kernels/simd/math.inc.h"
#include "cpu/kernels/simd/layout.inc.h"
#include "cpu/kernels/simd/elementwise.inc.h"
#include "cpu/kernels/simd/norm.inc.h"
#include "cpu/kernels/simd/gemm.inc.h"
#include "cpu/kernels/simd/attention.inc.h"
#include "cpu/kernels/simd/winograd.inc.h"

}  // namespace

static constexpr Kernels make_table(const char* name) {
  return {
      name,
      kNr,
      pack_panel,
      gemm,
      attention_packed_floats,
      attention_pack,
      attention_scratch_floats,
      attention,
      channel_moments,
      affine_rows,
      layer_norm,
      activate,
      add_all,
      planar_to_rows,
      rows_to_planar,
      half_to_float,
      bfloat16_to_float,
      winograd_input,
      winograd_output,
  };
}

}  // namespace nd::cpu::ND_ISA
