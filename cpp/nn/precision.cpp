#include "nn/precision.h"

#include "weights/formats/int4_rows.h"

namespace nd {
namespace {

// Sixteen values for each 3×3 kernel instead of nine may cost one layer this much more memory. float32 models
// are the largest already. SD 1's 2560 × 1280 channels cost 23 MB in int8. Layers of int8 models that
// multiply bfloat16 instead are little quicker than direct int8, so they may cost little.
constexpr int64_t kMaxExtraBytesF32 = 3 << 20, kMaxExtraBytesBf16 = 20 << 20, kMaxExtraBytesI8 = 24 << 20;
constexpr int64_t kMaxExtraBytesI8ToBf16 = 8 << 20;
// Sixteen bytes in place of nine four-bit weights and their scales, in models that are made to save memory:
// where the image is large and the kernels are few.
constexpr int64_t kMaxExtraBytesInt4 = 7 << 20, kInt4KernelBytes = 5;
constexpr int64_t kWinogradValues = 16, kDirectValues = 9;
// With fewer channels the transforms cost more than they save.
constexpr int64_t kMinWinogradChannels = 32;
// In int8 every Winograd layer adds about the same error, whatever its size (2.4 times that of a direct int8
// convolution), so that only large ones are worth it.
constexpr int64_t kMinWeightsI8 = 1280 * 640;  // in · out

int64_t bytes(Compute compute) {
  return compute == Compute::f32 ? 4 : compute == Compute::i8 ? 1 : 2;
}

/// Whether the error of int8 shows in this role. Measured with SD 1.5 in q8_0 (one prediction is 1.7 % off
/// with these rules, 2.0 % without those for projections and int8 Winograd):
/// - the first and the last layer see the latents themselves;
/// - the timestep's vector is computed once per timestep, so its precision costs nothing;
/// - a shortcut carries the whole signal, not a correction to it, and is a small share of the work;
/// - of the transformers' projections, those of the two highest resolutions show; at lower ones few pixels
///   share the larger weights;
/// - CLIP's encoders run once per image. With SDXL in q8_0, the first text encoder is 1.8 % off with bfloat16
///   and 3.4 % with int8, the second 1.8 % and 2.9 %. What is left comes from the stored weights. All of
///   their products add to it.
bool shows_i8(Role role) {
  switch (role) {
    case Role::input_output:
    case Role::time_embedding:
    case Role::shortcut:
    case Role::fine_projection:
    case Role::clip_layer:
      return true;
    case Role::hidden:
    case Role::middle_convolution:
      break;
  }
  return false;
}

// Why autoencoders prefer int16: each is one deep chain, all of whose products round both operands. Decoding
// 512×512 with SDXL's and random weights, the largest error is 1.9 % of the largest value in bfloat16 (1.5 %
// without Winograd, 2.7 % in PyTorch). No layer stands out: of its variance, the middle block and the three
// lower levels make a fifth each, the highest level and the first convolution a tenth each, and attention 2
// %. By these shares, float32 in the middle block and the lowest level would leave 1.3 %. int16 leaves 0.4 %,
// and takes 4 % more time than bfloat16.

/// bfloat16 holds f8 exactly. The weights of a row differ by so many powers of two that int8 would lose the
/// small ones.
Compute automatic(TensorType type) {
  switch (type) {
    case TensorType::f32:
    case TensorType::f64:
      return Compute::f32;
    case TensorType::f16:
    case TensorType::bf16:
    case TensorType::f8_e4m3:
    case TensorType::f8_e5m2:
      return Compute::bf16;
    default:
      return Compute::i8;
  }
}

}  // namespace

// The error of Winograd in int8 shows at the highest resolution; at the lowest one few pixels share the
// larger weights, which then cost more than they save.
Role convolution_role(int64_t level, int64_t levels) {
  return level > 0 && level + 1 < levels ? Role::middle_convolution : Role::hidden;
}

Role projection_role(int64_t level) {
  return level <= 1 ? Role::fine_projection : Role::hidden;
}

Compute PrecisionPolicy::product(Role role, TensorType type) const {
  Compute compute = Compute::f32;
  if (requested == Precision::automatic) {
    compute = automatic(type);
  } else if (requested != Precision::f32) {
    compute = requested == Precision::bf16 ? Compute::bf16 : Compute::i8;
  }
  // Eight bits hold all that there is of four-bit weights, and sixteen would take four times the memory.
  const bool i8_suits = !shows_i8(role) || int4_kind(type) != Int4Kind::none;
  if (compute == Compute::i8 && (!i8_suits || !i8_allowed || !device.i8)) compute = Compute::bf16;
  if (compute == Compute::bf16 && prefers_i16 && device.i16) return Compute::i16;
  // The scalar kernels take 4.6 times as long for bfloat16 as for float32. For int8 they take 2.2 times as
  // long, but float32 would need four times the memory, or eight, of weights that were quantized to save it.
  const bool unwanted = requested == Precision::automatic && device.bf16_is_slow;
  if (compute == Compute::bf16 && (!device.bf16 || unwanted)) compute = Compute::f32;
  return compute;
}

// Where the projections round their inputs, attention gains nothing from float32.
Compute PrecisionPolicy::attention(Compute projection) const {
  return projection != Compute::f32 && device.bf16_attention ? Compute::bf16 : Compute::f32;
}

// int8 becomes bfloat16 by Winograd, no slower than direct int8 and more accurate, unless the role allows
// Winograd in int8.
PrecisionPolicy::Convolution PrecisionPolicy::convolution(Role role, TensorType type, int64_t in, int64_t out,
                                                          bool three_by_three, bool streamed) const {
  const Compute direct = product(role, type);
  const Convolution directly{direct, false};
  if (!three_by_three || !device.winograd_f32 || in < kMinWinogradChannels || out < kMinWinogradChannels)
    return directly;
  const bool can_i8 = direct == Compute::i8 && role == Role::middle_convolution && device.winograd_i8;
  if (direct == Compute::i8 && int4_kind(type) != Int4Kind::none) {
    const bool fits = in * out * (kWinogradValues - kInt4KernelBytes) <= kMaxExtraBytesInt4;
    return {direct, can_i8 && !streamed && fits};
  }
  Compute wanted = direct;
  if (direct == Compute::i8 && !(can_i8 && in * out >= kMinWeightsI8)) wanted = Compute::bf16;
  if (wanted == Compute::bf16 && !device.winograd_bf16) return directly;
  if (wanted == Compute::i16 && !device.winograd_i16) return directly;
  // A streamed layer spends time on what it makes of its weights: int8 is quicker to make.
  if (streamed && direct == Compute::i8) return directly;
  const int64_t limit = wanted == Compute::f32  ? kMaxExtraBytesF32
                        : wanted == Compute::i8 ? kMaxExtraBytesI8
                        : direct == wanted      ? kMaxExtraBytesBf16
                                                : kMaxExtraBytesI8ToBf16;
  if (in * out * (kWinogradValues * bytes(wanted) - kDirectValues * bytes(direct)) > limit) return directly;
  return {wanted, true};
}

}  // namespace nd
