// The scalar reference: every kernel in its plainest form, with sums in double. Tests compare the other
// tables with it.
#pragma once
#include "cpu/kernels/kernels.h"

namespace nd::cpu::ref {

constexpr int64_t kPanelColumns = 16;

void pack_panel(const float* const* rows, int64_t count, int64_t k, float* panel);
void gemm(const GemmArgs& args, int64_t m0, int64_t m1, int64_t p0, int64_t p1);

int64_t attention_packed_floats(const AttentionArgs& args);
void attention_pack(const AttentionArgs& args, int64_t batch, int64_t head, float* packed);
int64_t attention_scratch_floats(const AttentionArgs& args);
void attention(const AttentionArgs& args, int64_t batch, int64_t head, int64_t q0, int64_t q1,
               const float* packed, float* scratch);

void channel_moments(const float* x, int64_t rows, int64_t c, float* mean, float* m2);
void affine_rows(const float* x, int64_t rows, int64_t c, const float* scale, const float* shift, bool silu,
                 float* out);
void layer_norm(const float* x, int64_t rows, int64_t c, const float* gamma, const float* beta, float eps,
                float* out);

double activate_one(double x, Activation f);
void activate(float* x, int64_t count, Activation f);
void add(const float* a, const float* b, int64_t count, float* out);
void planar_to_rows(const float* x, int64_t c, int64_t pixels, float* out);
void rows_to_planar(const float* x, int64_t c, int64_t pixels, float* out);
void half_to_float(const uint16_t* x, int64_t count, float* out);
void bfloat16_to_float(const uint16_t* x, int64_t count, float* out);
void add_scaled_rows(const float* scale, const float* rows, int64_t count, int64_t length, float* out);

}  // namespace nd::cpu::ref
