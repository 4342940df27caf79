#include "cpu/kernels/ref/ref.h"
#include "cpu/kernels/tables.h"

namespace nd::cpu {

const Kernels ref_kernels = {
    "ref",
    ref::kPanelColumns,
    ref::pack_panel,
    ref::gemm,
    {ref::attention_packed_floats, ref::attention_pack, ref::attention_scratch_floats, ref::attention},
    ref::channel_moments,
    ref::affine_rows,
    ref::layer_norm,
    ref::activate,
    ref::add,
    ref::planar_to_rows,
    ref::rows_to_planar,
    {ref::half_to_float, ref::bfloat16_to_float},
    nullptr,  // no Winograd: plain convolution is the truth
    nullptr,
    &ref_bf16,
    &ref_i8,
};

}  // namespace nd::cpu
