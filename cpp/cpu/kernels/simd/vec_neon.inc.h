// Vectors of 4 floats in NEON registers (AArch64). The names are documented in vec_avx512.inc.h.
#define ND_TILE_VECS 4  // 6 × 4 accumulators, 4 vectors of weights, the rest for broadcasts: 32 registers

namespace nd::cpu::ND_ISA {
namespace {

using Vec = float32x4_t;
constexpr int kLanes = 4;
constexpr int kTileVecs = ND_TILE_VECS;
constexpr int kKBlock = 512;  // as for AVX2
constexpr int kGroupPanels = 4;
constexpr int kAtOnce = 1;  // as for AVX-512

inline Vec zero() {
  return vdupq_n_f32(0.0f);
}
inline Vec set1(float x) {
  return vdupq_n_f32(x);
}
inline Vec load(const float* p) {
  return vld1q_f32(p);
}
inline Vec load_n(const float* p, int64_t n) {
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return vld1q_f32(lanes);
}
inline void store(float* p, Vec x) {
  vst1q_f32(p, x);
}
inline void store_n(float* p, Vec x, int64_t n) {
  float lanes[kLanes];
  vst1q_f32(lanes, x);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}
inline Vec load_fp16(const uint16_t* p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
inline Vec load_bfloat16(const uint16_t* p) {
  return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

inline const float* in_memory(const float* constants) {
  return constants;
}

inline Vec add(Vec a, Vec b) {
  return vaddq_f32(a, b);
}
inline Vec sub(Vec a, Vec b) {
  return vsubq_f32(a, b);
}
inline Vec mul(Vec a, Vec b) {
  return vmulq_f32(a, b);
}
inline Vec div(Vec a, Vec b) {
  return vdivq_f32(a, b);
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return vfmaq_f32(c, a, b);
}
inline Vec fnma(Vec a, Vec b, Vec c) {
  return vfmsq_f32(c, a, b);
}
inline Vec max(Vec a, Vec b) {
  return vmaxq_f32(a, b);
}
inline Vec min(Vec a, Vec b) {
  return vminq_f32(a, b);
}
inline Vec abs(Vec a) {
  return vabsq_f32(a);
}
inline Vec round(Vec a) {
  return vrndnq_f32(a);
}
inline Vec scale2(Vec p, Vec n, Vec t, Vec limit) {
  const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
  const Vec scaled = vmulq_f32(p, vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(scaled), vcltq_f32(t, limit)));
}

inline float sum(Vec a) {
  return vaddvq_f32(a);
}

inline void transpose(Vec (&r)[kLanes]) {
  const float32x4x2_t ab = vtrnq_f32(r[0], r[1]), cd = vtrnq_f32(r[2], r[3]);
  r[0] = vcombine_f32(vget_low_f32(ab.val[0]), vget_low_f32(cd.val[0]));
  r[1] = vcombine_f32(vget_low_f32(ab.val[1]), vget_low_f32(cd.val[1]));
  r[2] = vcombine_f32(vget_high_f32(ab.val[0]), vget_high_f32(cd.val[0]));
  r[3] = vcombine_f32(vget_high_f32(ab.val[1]), vget_high_f32(cd.val[1]));
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
