// Working memory of a forward: where its blocks lie.
#include "core/arena.h"

#include <functional>
#include <tuple>

#include "core/error.h"
#include "cpu/context.h"
#include "harness.h"

namespace nd::test {
namespace {

template <class Check>
void test(const std::string& name, Check check) {
  if (wanted(name)) report(name, check());
}

constexpr size_t kAlignment = Arena::kAlignment;

struct Block {
  Address address;
  size_t bytes = 0;
};

/// A pseudo-random sequence of allocations and releases; each(live) is called after every allocation, with
/// the newest one last.
void exercise(Arena& arena, const std::string& seed,
              const std::function<void(const std::vector<Block>&)>& each) {
  Random random(seed);
  std::vector<Block> live;
  for (int i = 0; i < 400; ++i) {
    if (live.size() > 3 && random.below(2)) {
      const size_t at = static_cast<size_t>(random.below(static_cast<int64_t>(live.size())));
      arena.release(live[at].address);
      live.erase(live.begin() + static_cast<int64_t>(at));
      continue;
    }
    const size_t bytes = static_cast<size_t>(1 + random.below(5000));
    live.push_back({arena.allocate(bytes), bytes});
    each(live);
  }
  for (const Block& block : live) arena.release(block.address);
}

void planned() {
  test("core/arena what is used at once lies apart, inside what was planned", [] {
    Arena arena;
    size_t better = 0;
    for (int seed = 0; seed < 50; ++seed) {
      const std::string name = std::to_string(seed);
      std::vector<Placement> blocks;
      arena.begin_measuring();
      size_t as_they_come = 0;
      uintptr_t first = 0;
      exercise(arena, name, [&](const std::vector<Block>& live) {
        if (!first) first = live.back().address.value;
        as_they_come = std::max(as_they_come, live.back().address.value - first + live.back().bytes);
      });
      const size_t bytes = arena.plan();
      if (bytes + kAlignment < as_they_come) ++better;
      if (bytes > as_they_come + kAlignment) return "more memory than without a plan, seed " + name;
      arena.reserve(bytes);
      std::string fault;
      exercise(arena, name, [&](const std::vector<Block>& live) {
        const Block& newest = live.back();
        if (newest.address.value % kAlignment) fault = "not aligned";
        if (newest.address - arena.base() + newest.bytes > bytes) fault = "outside";
        for (size_t i = 0; i + 1 < live.size(); ++i)
          if (live[i].address.value < newest.address.value + newest.bytes &&
              newest.address.value < live[i].address.value + live[i].bytes)
            fault = "overlaps";
      });
      if (!fault.empty()) return fault + ", seed " + name;
    }
    // Most sequences leave gaps that a plan does not have.
    return better >= 25 ? std::string() : "a plan was better " + std::to_string(better) + " times of 50";
  });
  // 1 0 2 as they come: when the large one comes, the gap of two is too small, and it goes to the end.
  const auto three = [](Arena& arena, size_t last) {
    const Address a = arena.allocate(kAlignment), b = arena.allocate(kAlignment);
    arena.release(a);
    const Address c = arena.allocate(2 * kAlignment);
    arena.release(b);
    const Address d = arena.allocate(last);
    arena.release(c);
    arena.release(d);
  };
  test("core/arena a plan needs no more than what is used at once", [&] {
    Arena arena;
    arena.begin_measuring();
    three(arena, kAlignment);
    return arena.plan() == 3 * kAlignment ? "" : "not three blocks";
  });
  test("core/arena plans again for another sequence, and for the first one", [&] {
    Arena arena;
    for (const size_t last : {1, 2, 1, 1, 4, 1}) {
      arena.begin_measuring();
      three(arena, last * kAlignment);
      const size_t bytes = arena.plan();
      if (bytes != std::max<size_t>(3, 2 + last) * kAlignment) return "wrong sum";
      arena.reserve(bytes);
      three(arena, last * kAlignment);
    }
    return "";
  });
  test("core/arena refuses another sequence than was planned", [&] {
    Arena arena;
    arena.begin_measuring();
    three(arena, kAlignment);
    arena.reserve(arena.plan());
    try {
      three(arena, 2 * kAlignment);
    } catch (const Error& error) {
      return error.code() == ErrorCode::out_of_memory ? "" : "wrong code";
    }
    return "no error";
  });
  test("core/arena refuses what is released later than was planned", [&] {
    Arena arena;
    arena.begin_measuring();
    three(arena, kAlignment);
    arena.reserve(arena.plan());
    try {
      arena.allocate(kAlignment), arena.allocate(kAlignment), arena.allocate(2 * kAlignment);
    } catch (const Error&) {
      return "";
    }
    return "two blocks at one place";
  });
  test("core/arena repeats differently where that was said", [&] {
    Arena arena;
    arena.begin_measuring();
    three(arena, kAlignment);
    arena.repeat_differently();
    const size_t bytes = arena.plan();
    arena.reserve(bytes);
    if (bytes != 4 * kAlignment) return "not placed as they come";
    three(arena, kAlignment);
    const Address whole = arena.allocate(bytes);
    return whole == arena.base() ? "" : "not everything was released";
  });
}

void as_they_come() {
  test("core/arena aligns and reuses", [] {
    Arena arena;
    arena.reserve(1000);
    const Address a = arena.allocate(1);
    const Address b = arena.allocate(100);
    if (a.value % kAlignment || b.value % kAlignment) return "not aligned";
    std::memset(cpu::pointer<void>(a), 1, 1);
    std::memset(cpu::pointer<void>(b), 2, 100);
    arena.release(a);
    if (arena.allocate(64) != a) return "the gap was not reused";
    arena.release(b);
    if (arena.allocate(128) != b) return "the second gap was not reused";
    return "";
  });
  test("core/arena neighboring gaps are merged", [] {
    Arena arena;
    arena.reserve(4 * kAlignment);
    const Address a = arena.allocate(64);
    const Address b = arena.allocate(64);
    const Address c = arena.allocate(64);
    const Address d = arena.allocate(64);
    arena.release(a);
    arena.release(c);
    arena.release(b);
    return arena.allocate(192) == a && d ? "" : "a gap of three was not found";
  });
  test("core/arena refuses more than was planned", [] {
    Arena arena;
    arena.reserve(128);
    try {
      arena.allocate(4096);
    } catch (const Error& error) {
      return error.code() == ErrorCode::out_of_memory ? "" : "wrong code";
    }
    return "no error";
  });
}

const Register suite([] {
  planned();
  as_they_come();
});

}  // namespace
}  // namespace nd::test
