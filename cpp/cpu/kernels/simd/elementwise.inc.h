// Activations in place, sums and conversions to float32. All are bound by memory, so plain loops suffice.
namespace nd::cpu::ND_ISA {
namespace {

template <Activation F>
void activate_all(float* x, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(x + i, activated<F>(load(x + i)));
  if (i < count) store_n(x + i, activated<F>(load_n(x + i, count - i)), count - i);
}

void activate(float* x, int64_t count, Activation f) {
  switch (f) {
    case Activation::silu:
      return activate_all<Activation::silu>(x, count);
    case Activation::gelu:
    case Activation::geglu:
      return activate_all<Activation::gelu>(x, count);
    case Activation::quick_gelu:
      return activate_all<Activation::quick_gelu>(x, count);
    case Activation::relu:
      return activate_all<Activation::relu>(x, count);
    case Activation::none:
      return;
  }
}

void add_all(const float* a, const float* b, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(out + i, add(load(a + i), load(b + i)));
  if (i < count) store_n(out + i, add(load_n(a + i, count - i), load_n(b + i, count - i)), count - i);
}

/// Converts either 16-bit format; the tail goes through a padded copy.
template <Vec (*Load)(const uint16_t*)>
void convert_all(const uint16_t* x, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(out + i, Load(x + i));
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

}  // namespace
}  // namespace nd::cpu::ND_ISA
