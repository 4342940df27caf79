#include "trial.h"

#include <cstdio>

#include "cuda/trial/hopper_trial.h"
#include "cuda/trial/overlap_trial.h"
#include "cuda/trial/tile_trial.h"

namespace nd::cuda_bench {
namespace {

using namespace nd::cuda;

Row row_of(const std::string& name, const TileMeasurement& measured) {
  return {name,
          {{"long_us", measured.long_full},
           {"short_us", measured.short_full},
           {"long_alone_us", measured.long_alone}}};
}

void try_tiles(Device& device, Report& report) {
  const TileVerdict verdict = cuda::try_tiles(device);
  std::printf("Times of products: %s (%.0f ms)\n", verdict.note.c_str(), verdict.milliseconds);
  report.set("products", verdict.note);
  report.add("trial", {"tiles", {{"ms", verdict.milliseconds}}});
  const auto add = [&](const std::string& name, const TileMeasurement& measured, const TileTime& time) {
    Row row = row_of(name, measured);
    for (const auto& [key, value] : {std::pair{"resident", static_cast<double>(time.resident)},
                                     {"latency", time.latency},
                                     {"step", time.step},
                                     {"block", time.block}})
      row.numbers.emplace_back(key, value);
    report.add("trial", row);
  };
  for (int tile = 0; tile < kTiles; ++tile)
    add("halves " + std::to_string(tile), verdict.halves[tile], verdict.times.halves[tile]);
  for (int tile = 0; tile < kInt8TileCount; ++tile)
    add("int8 " + std::to_string(tile), verdict.int8[tile], verdict.times.int8[tile]);
  device.use_tile_times(verdict.times);
}

void try_overlap(Device& device, Report& report) {
  if (!device.can_overlap_launches()) return report.set("overlap", "not on this GPU");
  const OverlapVerdict verdict = cuda::try_overlap(device);
  std::printf("Overlap of kernels %s (%.0f ms)\n", verdict.note.c_str(), verdict.milliseconds);
  report.set("overlap", verdict.note);
  report.add(
      "trial",
      {"overlap",
       {{"ms", verdict.milliseconds}, {"plain_us", verdict.plain}, {"overlapping_us", verdict.overlapping}}});
  device.use_overlapping_launches(verdict.on);
}

}  // namespace

void try_kernels(CudaBackend& backend, const std::vector<char>& image, Report& report) {
  Device& device = backend.device();
  try_tiles(device, report);
  try_overlap(device, report);
  if (!device.has_warpgroup_products()) {
    report.set("hopper", "not in the kernels of this GPU");
    return;
  }
  const HopperVerdict verdict =
      try_hopper(device.driver(), device.description().number, image, device.tile_times());
  std::printf("Hopper's kernels %s (%.0f ms)\n", verdict.note.c_str(), verdict.milliseconds);
  report.set("hopper", verdict.note);
  report.add("trial", {"all", {{"ms", verdict.milliseconds}}});
  const HopperMeasurements& m = verdict.measurements;
  Row others = row_of("kernels for all GPUs", m.everywhere);
  others.numbers.emplace_back("modelled_long_us", m.modelled_long);
  others.numbers.emplace_back("modelled_short_us", m.modelled_short);
  report.add("trial", others);
  for (int i = 0; i < kHopperTileCount; ++i) {
    Row row = row_of("product_hopper_" + std::to_string(kHopperTiles[i].columns), m.tiles[i]);
    const TileTime& time = verdict.times.tiles[i];
    if (verdict.on && verdict.times.has_tile(i))
      for (const auto& [name, value] :
           {std::pair{"latency", time.latency}, {"step", time.step}, {"block", time.block}})
        row.numbers.emplace_back(name, value);
    report.add("trial", row);
  }
  for (int i = 0; i < kHopperAttentionCount; ++i)
    for (int length = 0; length < kTriedLengths; ++length)
      report.add("trial",
                 {"attention_hopper_" + std::to_string(kHopperAttentionShapes[i].dim) + " of " +
                      std::to_string(kTriedTokens[length]) + " tokens",
                  {{"us", m.attention[i][length].hopper}, {"other_us", m.attention[i][length].everywhere}}});
  apply(verdict, device);
}

}  // namespace nd::cuda_bench
