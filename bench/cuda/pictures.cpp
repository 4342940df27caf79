#include "pictures.h"

#include <algorithm>

#include "counted_memory.h"
#include "measure.h"
#include "picture.h"

namespace nd::cuda_bench {
namespace {

using namespace nd::cuda;

constexpr int kMaxRepetitions = 5;

double gigabytes(size_t bytes) {
  return static_cast<double>(bytes) * 1e-9;
}

/// `before`: bytes that were counted before the model was loaded. Hopper's trial leaves some, as closing its
/// context frees them.
void time_picture(CudaBackend& backend, PictureModel& model, int64_t side, const Options& options,
                  size_t before, Row& row) {
  const int64_t steps = options.emulated ? 2 : 20;
  // Warms up, and is watched, which takes time.
  backend.release_spare_memory();
  watch_memory();
  const size_t weights = allocated_bytes() - before;
  bool finite = model.draw(side, steps).finite;
  stop_watching_memory();
  const size_t peak = peak_bytes() - before;
  size_t of_all = 0;
  {
    const Device::Current current(backend.device());
    of_all = peak_bytes_of_all();
  }
  std::vector<double> all, prompts, stepping, decode;
  for (int i = 0; i < std::min(repetitions_of(options), kMaxRepetitions); ++i) {
    const Picture picture = model.draw(side, steps);
    all.push_back(picture.seconds()), prompts.push_back(picture.prompts);
    stepping.push_back(picture.steps), decode.push_back(picture.decode);
    finite = finite && picture.finite;
  }
  const double seconds = median_of(all);
  row.numbers = {{"ms", seconds * 1e3},
                 {"it_s", static_cast<double>(steps) / seconds},
                 {"prompts_ms", median_of(prompts) * 1e3},
                 {"steps_ms", median_of(stepping) * 1e3},
                 {"decode_ms", median_of(decode) * 1e3},
                 {"steps", static_cast<double>(steps)},
                 {"finite", finite ? 1.0 : 0.0},
                 {"weights_gb", gigabytes(weights)},
                 {"peak_gb", gigabytes(peak)},
                 {"card_gb", gigabytes(of_all)}};
}

}  // namespace

void time_pictures(CudaBackend& backend, const Options& options, Report& report) {
  for (const std::string& name : options.models) {
    const ModelConfig config = model_config(name, options.shrink);
    const size_t before = allocated_bytes();
    PictureModel model(config, backend, options.weights);
    for (const int64_t full : config.sides) {
      if (!wants_size(options, 8 * full)) continue;
      const int64_t side = config.shrunk(full, options.shrink);
      Row row{
          "picture, " + config.title + ", " + type_name(options.weights) + "guided, " + size_name(8 * side),
          {}};
      time_picture(backend, model, side, options, before, row);
      report.add("pictures", row);
      report.write(options.json);
    }
  }
}

}  // namespace nd::cuda_bench
