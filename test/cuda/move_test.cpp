// Kernels that move activations, exactly.
#include <algorithm>
#include <cmath>

#include "support.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

void concat() {
  struct Shape {
    int64_t rows, a, b;
  };
  for (const auto& [rows, a, b] : {Shape{1, 1, 1}, {7, 8, 16}, {13, 3, 5}, {77, 320, 640}, {5, 8, 4}}) {
    const std::string name =
        "cuda/concat " + std::to_string(rows) + "x" + std::to_string(a) + "+" + std::to_string(b);
    in_all_orders(name, [&, rows = rows, a = a, b = b] {
      const std::vector<float> left = random_halves("a", rows * a), right = random_halves("b", rows * b);
      const Array da = Array::halves(left), db = Array::halves(right), dy(rows * (a + b) * 2);
      const int64_t step = a % 8 == 0 && b % 8 == 0 ? 8 : 1;
      launch(Kernel::concat, {pieces_of(rows * (a + b) / step, kMoveThreads)},
             ConcatArgs{da.as<half>(), db.as<half>(), dy.as<half>(), rows, narrow(a), narrow(b)});
      const std::vector<float> got = dy.read_halves(rows * (a + b));
      for (int64_t i = 0; i < rows * (a + b); ++i) {
        const int64_t row = i / (a + b), channel = i % (a + b);
        const float want = channel < a ? left[static_cast<size_t>(row * a + channel)]
                                       : right[static_cast<size_t>(row * b + channel - a)];
        if (!same_bits(got[static_cast<size_t>(i)], want)) return "element " + std::to_string(i);
      }
      return std::string();
    });
  }
}

void add_rows() {
  for (const int64_t count : {int64_t{1}, int64_t{15}, int64_t{64}, int64_t{2560}})
    for (const float factor : {1.0f, 0.5f, 0.0f})
      for (const bool replaces : {false, true}) {
        const std::string name = "cuda/add_rows " + std::to_string(count) + " times " +
                                 std::to_string(factor) + (replaces ? " replacing" : "");
        in_all_orders(name, [&] {
          const std::vector<float> x = random_halves("x", count), y = random_halves("y", count);
          const Array dx = Array::halves(x), dy = Array::halves(y);
          const bool vector = count % 8 == 0;
          const int64_t threads = vector ? count / 8 : count;
          launch(Kernel::add_rows, {pieces_of(threads, kMoveThreads)},
                 AddArgs{dx.as<half>(), dy.as<half>(), threads, factor, replaces, vector, nullptr, 0, 0});
          const std::vector<float> got = dy.read_halves(count);
          for (size_t i = 0; i < got.size(); ++i) {
            const float sum = (replaces ? 0.0f : y[i]) + factor * x[i];
            // Half precision has eleven bits.
            if (!(std::abs(got[i] - sum) <= std::abs(sum) / 2048)) return "element " + std::to_string(i);
          }
          return std::string();
        });
      }
}

void add_masked() {
  // Two images of three rows.
  for (const int64_t c : {int64_t{5}, int64_t{16}})
    in_all_orders("cuda/add_rows with a mask, " + std::to_string(c) + " channels", [c] {
      const int64_t count = 6 * c;
      const std::vector<float> x = random_halves("x", count), y = random_halves("y", count),
                               mask = {1.0f, 0.0f, 0.25f};
      const Array dx = Array::halves(x), dy = Array::halves(y), dmask = Array::halves(mask);
      const bool vector = c % 8 == 0;
      const int64_t step = vector ? 8 : 1;
      launch(Kernel::add_rows, {pieces_of(count / step, kMoveThreads)},
             AddArgs{dx.as<half>(), dy.as<half>(), count / step, 0.5f, false, vector, dmask.as<half>(),
                     narrow(c / step), 3});
      const std::vector<float> got = dy.read_halves(count);
      for (int64_t i = 0; i < count; ++i) {
        const auto at = static_cast<size_t>(i);
        const float sum = y[at] + 0.5f * mask[static_cast<size_t>(i / c % 3)] * x[at];
        if (!(std::abs(got[at] - sum) <= std::abs(sum) / 2048)) return "element " + std::to_string(i);
      }
      return std::string();
    });
}

void average_pool() {
  struct Shape {
    int64_t n, h, w, c;
  };
  for (const auto& [n, h, w, c] : {Shape{1, 1, 1, 1}, {2, 5, 7, 3}, {1, 8, 6, 40}, {3, 2, 9, 8}}) {
    const std::string name =
        "cuda/average_pool " + std::to_string(h) + "x" + std::to_string(w) + "x" + std::to_string(c);
    in_all_orders(name, [&, n = n, h = h, w = w, c = c] {
      const int64_t out_h = (h + 1) / 2, out_w = (w + 1) / 2, count = n * out_h * out_w * c;
      const std::vector<float> x = random_halves("x", n * h * w * c);
      const Array dx = Array::halves(x), dy(count * 2);
      launch(Kernel::average_pool, {pieces_of(count, kMoveThreads)},
             PoolArgs{dx.as<half>(), dy.as<half>(), count, narrow(h), narrow(w), narrow(c)});
      const std::vector<float> got = dy.read_halves(count);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t column = i / c % out_w, row = i / c / out_w % out_h, image = i / c / out_w / out_h;
        float sum = 0, largest = 0;
        int pixels = 0;
        for (int64_t y = 2 * row; y < std::min(2 * row + 2, h); ++y)
          for (int64_t at = 2 * column; at < std::min(2 * column + 2, w); ++at, ++pixels) {
            const float value = x[static_cast<size_t>(((image * h + y) * w + at) * c + i % c)];
            sum += value, largest = std::max(largest, std::abs(value));
          }
        // Half precision has eleven bits.
        if (!(std::abs(got[static_cast<size_t>(i)] - sum / static_cast<float>(pixels)) <= largest / 2048))
          return "element " + std::to_string(i);
      }
      return std::string();
    });
  }
}

void resample() {
  struct Shape {
    int64_t n, h, w, c;
    bool twice;
  };
  for (const auto& [n, h, w, c, twice] : {Shape{1, 2, 2, 1, false},
                                          {2, 6, 5, 3, false},
                                          {1, 8, 4, 40, false},
                                          {1, 1, 1, 2, true},
                                          {2, 3, 5, 8, true}}) {
    const std::string name = "cuda/resample " + std::to_string(h) + "x" + std::to_string(w) + "x" +
                             std::to_string(c) + (twice ? " to twice" : " to half");
    in_all_orders(name, [&, n = n, h = h, w = w, c = c, twice = twice] {
      const int64_t out_h = twice ? 2 * h : h / 2, out_w = twice ? 2 * w : w / 2,
                    count = n * out_h * out_w * c;
      const std::vector<float> x = random_halves("x", n * h * w * c);
      const Array dx = Array::halves(x), dy(count * 2);
      launch(Kernel::resample, {pieces_of(count, kMoveThreads)},
             ResampleArgs{dx.as<half>(), dy.as<half>(), count, narrow(h), narrow(w), narrow(c), twice});
      const Resampling how = twice ? Resampling::twice : Resampling::half;
      const std::vector<float> got = dy.read_halves(count);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t image = i / c / out_w / out_h;
        const ResamplingTaps down = ResamplingTaps::of(how, i / c / out_w % out_h),
                             across = ResamplingTaps::of(how, i / c % out_w);
        double sum = 0;
        for (int64_t dy = 0; dy < down.count; ++dy)
          for (int64_t dx = 0; dx < across.count; ++dx) {
            const int64_t row = ResamplingTaps::reflected(down.first + dy, h),
                          column = ResamplingTaps::reflected(across.first + dx, w);
            sum += static_cast<double>(down.weights[dy] * across.weights[dx]) *
                   x[static_cast<size_t>(((image * h + row) * w + column) * c + i % c)];
          }
        if (!(std::abs(got[static_cast<size_t>(i)] - sum) <= 1.0 / 2048))
          return "element " + std::to_string(i);
      }
      return std::string();
    });
  }
}

void planar() {
  struct Case {
    int64_t c, pixels, pitch;
  };
  for (const auto& [c, pixels, pitch] :
       {Case{1, 1, 1}, {4, 77, 4}, {33, 100, 33}, {70, 31, 70}, {4, 77, 9}, {33, 100, 70}}) {
    const std::string name =
        "cuda/planar " + std::to_string(c) + "x" + std::to_string(pixels) + " of " + std::to_string(pitch);
    in_all_orders(name, [&, c = c, pixels = pixels, pitch = pitch] {
      const int64_t n = 2, count = n * c * pixels, all = n * pitch * pixels;
      const std::vector<float> planes = random_halves("planes", count), before = random_halves("rows", all);
      const Array from = Array::floats(planes), rows = Array::halves(before), back(count * 4);
      const Grid grid{pieces_of(pixels, kTransposeTile), pieces_of(c, kTransposeTile), n};
      launch(Kernel::planar_to_rows, grid,
             PlanarArgs{from.as<float>(), rows.as<half>(), narrow(c), narrow(pixels), narrow(pitch), 2.0f,
                        0.5f});
      launch(Kernel::rows_to_planar, grid,
             PlanarArgs{back.as<float>(), rows.as<half>(), narrow(c), narrow(pixels), narrow(pitch), 1.0f,
                        0.0f});
      std::vector<float> got = rows.read_halves(all), returned = back.read<float>(count);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t image = i / (c * pixels), channel = i / pixels % c, pixel = i % pixels;
        const float want = rounded(planes[static_cast<size_t>(i)] * 2.0f + 0.5f);
        float& one = got[static_cast<size_t>((image * pixels + pixel) * pitch + channel)];
        if (!same_bits(one, want) || !same_bits(returned[static_cast<size_t>(i)], want))
          return "element " + std::to_string(i);
        one = before[static_cast<size_t>((image * pixels + pixel) * pitch + channel)];
      }
      return got == before ? std::string() : "other channels have changed";
    });
  }
}

void stored() {
  for (const bool fp16 : {false, true}) {
    in_all_orders(std::string("cuda/stored rows, ") + (fp16 ? "halves" : "floats"), [&] {
      const int64_t rows = 5, count = 37, pitch = 400;
      const std::vector<float> values = random_halves("rows", rows * count, 1000);
      const Array x = Array::halves(values), store(rows * pitch), back(rows * count * 2);
      StoreArgs args{x.as<half>(), store.as<unsigned char>(), pitch, narrow(rows), narrow(count), fp16};
      launch(Kernel::store_rows, {pieces_of(rows * count, kMoveThreads)}, args);
      args.x = back.as<half>();
      launch(Kernel::load_rows, {pieces_of(rows * count, kMoveThreads)}, args);
      return within(back.read_halves(rows * count), values, 0);
    });
  }
}

void gather() {
  in_all_orders("cuda/gather", [] {
    const int64_t size = 11, width = 20, count = 9;
    const std::vector<float> table = random_halves("table", size * width);
    const std::vector<int32_t> ids = {0, 10, 3, 3, 7, 1, 9, 2, 10};
    std::vector<float> bits(ids.size());
    std::memcpy(bits.data(), ids.data(), ids.size() * sizeof(int32_t));
    const Array dt = Array::halves(table), di = Array::floats(bits), y(count * width * 2);
    GatherArgs args{dt.as<half>(), di.as<int32_t>(), y.as<half>(), narrow(count), narrow(width), false};
    launch(Kernel::gather, {pieces_of(count * width, kMoveThreads)}, args);
    args.add = true;
    launch(Kernel::gather, {pieces_of(count * width, kMoveThreads)}, args);
    std::vector<float> want;
    for (const int32_t id : ids)
      for (int64_t j = 0; j < width; ++j) want.push_back(2 * table[static_cast<size_t>(id * width + j)]);
    return within(y.read_halves(count * width), want, 0);
  });
}

void nearest() {
  for (const int64_t size : {1, 31, 37, 200}) {
    in_all_orders("cuda/nearest of " + std::to_string(size), [size] {
      const int64_t count = 21, width = 3;
      const std::vector<float> x = random_halves("x", count * width);
      std::vector<float> table = random_halves("codes", size * width);
      // The first of equals wins.
      for (int64_t i = 0; i < width && size > 30; ++i)
        table[static_cast<size_t>(30 * width + i)] = table[static_cast<size_t>(5 * width + i)] =
            x[static_cast<size_t>(i)];
      const Array dx = Array::halves(x), dt = Array::floats(table), codes(count * 4);
      launch(Kernel::nearest, {pieces_of(count * 32, kMoveThreads)},
             NearestArgs{dx.as<half>(), dt.as<float>(), codes.as<int32_t>(), narrow(count), narrow(size),
                         narrow(width)});
      const std::vector<int32_t> got = codes.read<int32_t>(count);
      for (int64_t p = 0; p < count; ++p) {
        int64_t best = 0;
        double least = 1e30;
        for (int64_t i = 0; i < size; ++i) {
          double distance = 0;
          for (int64_t j = 0; j < width; ++j) {
            const double d =
                x[static_cast<size_t>(p * width + j)] - table[static_cast<size_t>(i * width + j)];
            distance += d * d;
          }
          if (distance < least) least = distance, best = i;
        }
        if (got[static_cast<size_t>(p)] != best) return "pixel " + std::to_string(p);
      }
      return std::string();
    });
  }
}

const Register suite([] {
  concat();
  add_rows();
  add_masked();
  average_pool();
  resample();
  planar();
  stored();
  gather();
  nearest();
});

}  // namespace
}  // namespace nd::cuda_test
