// Least-squares search for the scale (and min) of a block or sub-block: the levels that a trial scale gives
// decide the best scale for those levels, in closed form; the trial whose result leaves the smallest squared
// error wins.
#pragma once
#include <cstdint>
#include <cstring>

namespace nd {

constexpr float kNothing = 1e-30f;  // a block of smaller values is encoded as zeros

/// Four floats. Compilers do not vectorize sums and selections by themselves, as the order of additions and
/// NaN matter.
using Vec = float __attribute__((vector_size(16)));

inline Vec all(float x) {
  return Vec{x, x, x, x};
}

inline Vec load(const float* p) {
  Vec x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

inline float total(Vec x) {
  return (x[0] + x[1]) + (x[2] + x[3]);
}

/// The integers nearest to x within [low, high]; ties to even; NaN gives low.
inline Vec level(Vec x, float low, float high) {
  x = x > all(low) ? x : all(low);
  x = x < all(high) ? x : all(high);
  constexpr float kRound = 12582912.0f;  // 1.5·2^23: a sum with it is rounded to an integer
  return (x + kRound) - kRound;
}

/// The same of one number, as an integer.
inline int32_t level(float x, int32_t low, int32_t high) {
  return static_cast<int32_t>(level(all(x), static_cast<float>(low), static_cast<float>(high))[0]);
}

inline float inverse(float x) {
  return x != 0.0f ? 1.0f / x : 0.0f;
}

/// Levels of x·factor + offset for N values.
template <int N>
struct Levels {
  Levels(const float* x, float factor, float offset, float low, float high) {
    for (int i = 0; i < N / 4; ++i) q[i] = level(load(x + 4 * i) * factor + offset, low, high);
  }
  template <class Integer>
  explicit Levels(const Integer* levels) {
    for (int i = 0; i < N; ++i) q[i / 4][i % 4] = static_cast<float>(levels[i]);
  }
  float operator[](int i) const { return q[i / 4][i % 4]; }
  Vec q[N / 4];
};

/// The sums that least squares needs of N values and their levels.
struct WeightedSums {
  float q = 0.0f, qq = 0.0f, qx = 0.0f;
};

template <int N>
WeightedSums weighted_sums(const float* x, const Levels<N>& levels) {
  Vec q{}, qq{}, qx{};
  for (int i = 0; i < N / 4; ++i) {
    const Vec level = levels.q[i];
    q += level;
    qq += level * level;
    qx += level * load(x + 4 * i);
  }
  return {total(q), total(qq), total(qx)};
}

/// Σ(scale·q − min − x)².
template <int N>
float squared_error(const float* x, const Levels<N>& levels, float scale, float min) {
  Vec sum{};
  for (int i = 0; i < N / 4; ++i) {
    const Vec difference = levels.q[i] * scale - min - load(x + 4 * i);
    sum += difference * difference;
  }
  return total(sum);
}

/// Scale s of x ≈ s·q with levels from −zero to zero − 1. The value of largest size lands at −zero, or near
/// it.
template <int N>
float fit_scale(const float* x, int zero) {
  float size = 0.0f, value = 0.0f;
  for (int i = 0; i < N; ++i) {
    const float a = x[i] < 0.0f ? -x[i] : x[i];
    if (a > size) {
      size = a;
      value = x[i];
    }
  }
  if (!(size > kNothing)) return 0.0f;
  const float low = static_cast<float>(-zero), high = static_cast<float>(zero - 1);
  float best = 0.0f, best_gain = -1.0f;
  for (int trial = -10; trial <= 18; ++trial) {
    // With few levels it can pay to clip the largest values, so the trials extend further in that direction.
    const float factor = (low - 0.1f * static_cast<float>(trial)) / value;
    const WeightedSums m = weighted_sums<N>(x, Levels<N>(x, factor, 0.0f, low, high));
    const float gain = m.qq > 0.0f ? m.qx * m.qx / m.qq : 0.0f;  // by which Σx² exceeds the error
    if (gain > best_gain) {
      best_gain = gain;
      best = m.qx / m.qq;
    }
  }
  return best;
}

struct ScaleMin {
  float scale = 0.0f, min = 0.0f;
};

/// The mins that a format can store.
enum class MinSign { not_negative, any };

/// Scale s ≥ 0 and min m of x ≈ s·q − m with levels from 0 to `top`.
template <int N>
ScaleMin fit_scale_min(const float* x, int top, MinSign sign = MinSign::not_negative) {
  const bool not_negative = sign == MinSign::not_negative;
  float low = not_negative ? 0.0f : x[0], high = x[0];
  Vec sums{};
  for (int i = 0; i < N; ++i) {
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
  }
  for (int i = 0; i < N; i += 4) sums += load(x + i);
  const float sum = total(sums), n = static_cast<float>(N), max_level = static_cast<float>(top);
  if (!(high - low > kNothing)) return {0.0f, -low};

  ScaleMin best{(high - low) / max_level, -low};
  float best_cost = 3e38f;
  // Keeps the best scale and min for the levels of (factor, min) where they improve on all earlier trials.
  const auto trial = [&](float factor, float min) {
    const WeightedSums m = weighted_sums<N>(x, Levels<N>(x, factor, min * factor, 0.0f, max_level));
    const float determinant = n * m.qq - m.q * m.q;
    if (!(determinant > 0.0f)) return;
    ScaleMin fit{(n * m.qx - m.q * sum) / determinant, (m.q * m.qx - m.qq * sum) / determinant};
    if (not_negative && fit.min < 0.0f) fit = {m.qx / m.qq, 0.0f};
    // The squared error less Σx².
    const float cost = fit.scale * (fit.scale * m.qq - 2.0f * m.qx) +
                       fit.min * (n * fit.min + 2.0f * (sum - fit.scale * m.q));
    if (fit.scale > 0.0f && cost < best_cost) {
      best_cost = cost;
      best = fit;
    }
  };
  for (int i = -10; i <= 10; ++i) trial((max_level + 0.1f * static_cast<float>(i)) / (high - low), -low);
  // Recomputes the levels from the scale and min found (Lloyd's iteration).
  for (int i = 0; i < 3; ++i) trial(inverse(best.scale), best.min);
  return best;
}

}  // namespace nd
