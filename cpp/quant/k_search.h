// Least-squares search for the scale (and min) of a sub-block: the levels that a trial scale gives decide the best scale
// for those levels, in closed form; the trial whose result leaves the smallest squared error wins.
#pragma once
#include <cstdint>

namespace nd {

constexpr float kNothing = 1e-30f;  // values all smaller than this are taken for zeros

/// Adds in eight lanes, so that the compiler may vectorise without reordering anything.
struct Lanes {
  float sum[8] = {};
  void add(int lane, float x) { sum[lane] += x; }
  float total() const {
    return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
  }
};

/// The integer nearest to x within [low, high], as a float; ties to even; NaN gives low.
inline float level(float x, float low, float high) {
  x = x > low ? x : low;
  x = x < high ? x : high;
  constexpr float kRound = 12582912.0f;  // 1.5·2^23: the sum has no place for fractions
  return (x + kRound) - kRound;
}

/// q = levels of x·factor + offset.
template <int N>
void levels(const float* x, float factor, float offset, float low, float high, float* q) {
  for (int i = 0; i < N; ++i) q[i] = level(x[i] * factor + offset, low, high);
}

inline float inverse(float x) { return x != 0.0f ? 1.0f / x : 0.0f; }

/// The sums that least squares needs of a sub-block and its levels.
struct Moments {
  float q = 0.0f, qq = 0.0f, qx = 0.0f;
};

template <int N>
Moments moments(const float* x, const float* q) {
  Lanes sum_q, sum_qq, sum_qx;
  for (int i = 0; i < N; i += 8)
    for (int lane = 0; lane < 8; ++lane) {
      const float level = q[i + lane];
      sum_q.add(lane, level);
      sum_qq.add(lane, level * level);
      sum_qx.add(lane, level * x[i + lane]);
    }
  return {sum_q.total(), sum_qq.total(), sum_qx.total()};
}

/// Scale s of x ≈ s·q with levels from −zero to zero − 1. The value of largest size lands at −zero, or near it.
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
  float best = 0.0f, best_gain = -1.0f, q[N];
  for (int trial = -10; trial <= 18; ++trial) {
    // Few levels: it can pay to cut the largest values off, so trials go further beyond the range than below.
    levels<N>(x, (low - 0.1f * static_cast<float>(trial)) / value, 0.0f, low, high, q);
    const Moments m = moments<N>(x, q);
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

/// Scale s ≥ 0 and min m ≥ 0 of x ≈ s·q − m with levels from 0 to `top`.
template <int N>
ScaleMin fit_scale_min(const float* x, int top) {
  float low = 0.0f, high = x[0];
  Lanes sum;
  for (int i = 0; i < N; ++i) {
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
    sum.add(i % 8, x[i]);
  }
  const float total = sum.total(), n = static_cast<float>(N), most = static_cast<float>(top);
  if (!(high - low > kNothing)) return {0.0f, -low};

  ScaleMin best{(high - low) / most, -low};
  float best_cost = 3e38f, q[N];
  // The best scale and min for the levels that (factor, min) gives, if they are better than all before.
  const auto trial = [&](float factor, float min) {
    levels<N>(x, factor, min * factor, 0.0f, most, q);
    const Moments m = moments<N>(x, q);
    const float determinant = n * m.qq - m.q * m.q;
    if (!(determinant > 0.0f)) return;
    ScaleMin fit{(n * m.qx - m.q * total) / determinant, (m.q * m.qx - m.qq * total) / determinant};
    if (fit.min < 0.0f) fit = {m.qx / m.qq, 0.0f};
    // The squared error less Σx².
    const float cost = fit.scale * (fit.scale * m.qq - 2.0f * m.qx) +
                       fit.min * (n * fit.min + 2.0f * (total - fit.scale * m.q));
    if (fit.scale > 0.0f && cost < best_cost) {
      best_cost = cost;
      best = fit;
    }
  };
  for (int i = -10; i <= 10; ++i) trial((most + 0.1f * static_cast<float>(i)) / (high - low), -low);
  // Levels again from the scale and min found: Lloyd's iteration.
  for (int i = 0; i < 3; ++i) trial(inverse(best.scale), best.min);
  return best;
}

}  // namespace nd
