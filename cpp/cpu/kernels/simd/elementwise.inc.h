// Activations in place, sums and conversions to float32. Most are bound by memory, so plain loops suffice.
namespace nd::cpu::ND_ISA {
namespace {

void activate(float* x, int64_t count, Activation f) {
  switch (f) {
    case Activation::silu:
      return affine_row<false, Activation::silu>(x, nullptr, nullptr, count, x);
    case Activation::gelu:
    case Activation::geglu:
      return affine_row<false, Activation::gelu>(x, nullptr, nullptr, count, x);
    case Activation::quick_gelu:
      return affine_row<false, Activation::quick_gelu>(x, nullptr, nullptr, count, x);
    case Activation::relu:
      return affine_row<false, Activation::relu>(x, nullptr, nullptr, count, x);
    case Activation::none:
      return;
  }
}

void add_all(const float* a, const float* b, int64_t count, float* out) {
  const int64_t whole = whole_vectors(count);
  int64_t i = 0;
  for (; i < whole; i += kLanes) store(out + i, add(load(a + i), load(b + i)));
  if (i < count) store_n(out + i, add(load_n(a + i, count - i), load_n(b + i, count - i)), count - i);
}

/// Converts either 16-bit format; the tail goes through a padded copy.
template <Vec (*Load)(const uint16_t*)>
void convert_all(const uint16_t* x, int64_t count, float* out) {
  const int64_t whole = whole_vectors(count);
  int64_t i = 0;
  for (; i < whole; i += kLanes) store(out + i, Load(x + i));
  if (i == count) return;
  uint16_t tail[kLanes] = {};
  for (int64_t j = i; j < count; ++j) tail[j - i] = x[j];
  store_n(out + i, Load(tail), count - i);
}

void half_to_float(const uint16_t* x, int64_t count, float* out) {
  convert_all<load_fp16>(x, count, out);
}
void bfloat16_to_float(const uint16_t* x, int64_t count, float* out) {
  convert_all<load_bfloat16>(x, count, out);
}

/// Sums stay in registers while the rows pass: a row is read once and the output not at all in between.
template <int Vectors>
void add_scaled_columns(const float* scale, const float* rows, int64_t count, int64_t length, float* out) {
  Vec sum[Vectors];
  for (int v = 0; v < Vectors; ++v) sum[v] = load(out + v * kLanes);
  for (int64_t i = 0; i < count; ++i) {
    const Vec factor = set1(scale[i]);
    for (int v = 0; v < Vectors; ++v) sum[v] = fma(factor, load(rows + i * length + v * kLanes), sum[v]);
  }
  for (int v = 0; v < Vectors; ++v) store(out + v * kLanes, sum[v]);
}

void add_scaled_rows(const float* scale, const float* rows, int64_t count, int64_t length, float* out) {
  int64_t j = 0;
  for (; j + 8 * kLanes <= length; j += 8 * kLanes)
    add_scaled_columns<8>(scale, rows + j, count, length, out + j);
  for (; j + kLanes <= length; j += kLanes) add_scaled_columns<1>(scale, rows + j, count, length, out + j);
  if (j == length) return;
  Vec sum = load_n(out + j, length - j);
  for (int64_t i = 0; i < count; ++i)
    sum = fma(set1(scale[i]), load_n(rows + i * length + j, length - j), sum);
  store_n(out + j, sum, length - j);
}

}  // namespace
}  // namespace nd::cpu::ND_ISA
