#include "vae/plan.h"

#include <algorithm>
#include <optional>

namespace nd {

namespace {

// Rows in one band: fewer need less memory and compute more rows twice, where bands meet.
constexpr int64_t kRows[] = {64, 32, 16};

/// What half precision must save to be chosen: float32 loses nothing.
constexpr double kMinSaving = 1.05;

/// How many levels, counted from the highest resolution, are run in each way; each number includes those
/// before.
struct Depths {
  size_t joined, blocks, banded;  // the rest of the banded ones are written after every link
};

Plan make_plan(const Chain& chain, const Depths& depths, int64_t rows) {
  const std::vector<Link>& links = chain.links();
  const auto& levels = chain.levels();
  const bool up = chain.rises();
  // Levels by resolution, the highest first.
  const auto rank = [&](size_t level) { return up ? levels.size() - 1 - level : level; };
  Plan plan;
  plan.rows = rows;
  if (depths.banded == 0) return plan;
  plan.first = up ? levels[levels.size() - depths.banded].first : 0;
  plan.last = up ? links.size() : levels[depths.banded - 1].second;
  for (size_t level = 0; level < levels.size(); ++level) {
    if (rank(level) >= depths.banded) continue;
    const auto [first, last] = levels[level];
    const bool joined = rank(level) < depths.joined, blocks = rank(level) < depths.blocks;
    for (size_t i = first; i + 1 < last && !joined; ++i) {
      // A convolution that halves the image is cheaper to write than what it reads.
      if (links[i + 1].downsamples()) continue;
      if (links[i].closes || !blocks) plan.cuts.push_back(i + 1);
    }
    const bool goes_on = level + 1 < levels.size() ? rank(level + 1) < depths.joined : true;
    if (!(joined && goes_on) && last < plan.last) plan.cuts.push_back(last);
  }
  plan.cuts.push_back(plan.last);
  return plan;
}

/// Multiplications of links [first, last) for one band of output rows, or for the whole image.
double work(const Chain& chain, const std::vector<ImageShape>& shapes, size_t first, size_t last,
            std::optional<Rows> out) {
  double sum = 0;
  Rows in = out ? chain.input_rows(shapes, first, last, *out) : Rows{0, shapes[first].h};
  int64_t rows = in.count();
  for (size_t i = first; i < last; ++i) {
    const Link& link = chain.links()[i];
    if (link.upsamples()) rows *= 2;
    if (link.downsamples()) rows /= 2;
    const double pixels = static_cast<double>(rows * shapes[i + 1].w);
    const double each = static_cast<double>(link.conv->in() * link.conv->out());
    // Doubling is folded into four 2×2 convolutions; Winograd makes 4 multiplications of 9.
    sum += pixels * each * (link.downsamples() ? 9 : 4);
    if (link.shortcut) sum += pixels * each;
  }
  return sum;
}

double cost(const Chain& chain, const std::vector<ImageShape>& shapes, const Plan& plan) {
  double sum = work(chain, shapes, 0, plan.first, {});
  sum += work(chain, shapes, plan.last, chain.links().size(), {});
  const auto pass = [&](size_t first, size_t last) {
    const int64_t height = shapes[last].h, bands = (height + plan.rows - 1) / plan.rows, middle = bands / 2;
    const Rows rows{middle * plan.rows, std::min(height, (middle + 1) * plan.rows)};
    sum += work(chain, shapes, first, last, rows) * static_cast<double>(height) /
           static_cast<double>(rows.count());
  };
  size_t first = plan.first;
  for (const size_t last : plan.cuts) {
    for (size_t i = first + 1; i < last; ++i)
      if (chain.links()[i].norm) pass(first, i);
    pass(first, last);
    first = last;
  }
  return sum;
}

std::vector<Depths> all_depths(const Chain& chain) {
  const size_t levels = chain.levels().size();
  std::vector<Depths> result;
  for (size_t banded = 0; banded <= levels; ++banded) {
    // Without norms there is only one way to run links in bands, and it costs nothing.
    if (!chain.normalises()) {
      result.push_back({banded, banded, banded});
      continue;
    }
    for (size_t blocks = 0; blocks <= banded; ++blocks)
      for (size_t joined = 0; joined <= std::min<size_t>(1, blocks); ++joined)
        result.push_back({joined, blocks, banded});
  }
  return result;
}

}  // namespace

Plan choose_plan(const Chain& chain, const ImageShape& input, size_t most,
                 const std::function<size_t(const Plan&)>& bytes) {
  const std::vector<ImageShape> shapes = chain.shapes(input);
  struct Candidate {
    Plan plan;
    double cost;
  };
  std::vector<Candidate> candidates;
  for (const Depths& depths : all_depths(chain))
    for (const int64_t rows : kRows) {
      Plan plan = make_plan(chain, depths, rows);
      const double time = cost(chain, shapes, plan);
      candidates.push_back({plan, time});
      if (depths.banded == 0) break;
      plan.fp16 = true;
      candidates.push_back({std::move(plan), time * kMinSaving});
    }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.cost < b.cost; });
  const Plan* least = nullptr;
  size_t least_bytes = 0;
  for (const Candidate& candidate : candidates) {
    const size_t needed = bytes(candidate.plan);
    if (needed <= most) return candidate.plan;
    if (least && needed >= least_bytes) continue;
    least = &candidate.plan;
    least_bytes = needed;
  }
  return *least;
}

}  // namespace nd
