// Arena and thread pool.
#include <atomic>
#include <set>
#include <thread>

#include "core/arena.h"
#include "core/error.h"
#include "core/thread_pool.h"
#include "harness.h"
#include "kernels/kernels.h"

namespace nd::test {
namespace {

template <class Check>
void test(const std::string& name, Check check) {
  if (wanted(name)) report(name, check());
}

/// The same pseudo-random sequence of allocations; returns offsets from the first pointer.
std::vector<intptr_t> exercise(Arena& arena, const std::string& seed) {
  Random random(seed);
  std::vector<void*> live;
  std::vector<intptr_t> offsets;
  char* first = nullptr;
  for (int i = 0; i < 400; ++i) {
    if (live.size() > 3 && random.below(2)) {
      const size_t at = static_cast<size_t>(random.below(static_cast<int64_t>(live.size())));
      arena.release(live[at]);
      live.erase(live.begin() + static_cast<int64_t>(at));
      continue;
    }
    char* p = static_cast<char*>(arena.allocate(static_cast<size_t>(1 + random.below(5000))));
    if (!first) first = p;
    offsets.push_back(reinterpret_cast<intptr_t>(p) - reinterpret_cast<intptr_t>(first));
    live.push_back(p);
  }
  for (void* p : live) arena.release(p);
  return offsets;
}

void arena() {
  test("core/arena measured and real runs agree", [] {
    Arena arena;
    for (const char* seed : {"a", "b", "c"}) {
      arena.begin_measuring();
      const auto planned = exercise(arena, seed);
      const size_t peak = arena.peak();
      arena.reserve(peak);
      if (exercise(arena, seed) != planned) return std::string("offsets differ for seed ") + seed;
      if (arena.capacity() < peak) return std::string("capacity below the peak");
    }
    return std::string();
  });
  test("core/arena aligns and reuses", [] {
    Arena arena;
    arena.reserve(1000);
    void* a = arena.allocate(1);
    void* b = arena.allocate(100);
    if (reinterpret_cast<uintptr_t>(a) % 64 || reinterpret_cast<uintptr_t>(b) % 64)
      return "not aligned to 64 bytes";
    std::memset(a, 1, 1);
    std::memset(b, 2, 100);
    arena.release(a);
    if (arena.allocate(64) != a) return "the gap was not reused";
    arena.release(b);
    if (arena.allocate(128) != b) return "the second gap was not reused";
    return "";
  });
  test("core/arena neighbouring gaps join", [] {
    Arena arena;
    arena.begin_measuring();
    void* a = arena.allocate(64);
    void* b = arena.allocate(64);
    void* c = arena.allocate(64);
    void* d = arena.allocate(64);
    arena.release(a);
    arena.release(c);
    arena.release(b);
    return arena.allocate(192) == a && d && arena.peak() == 256 ? "" : "a gap of three was not found";
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

void thread_pool() {
  for (int threads : {1, 2, 5}) {
    const std::string n = " threads=" + std::to_string(threads);
    test("core/pool every index once" + n, [=] {
      ThreadPool pool(threads);
      for (int64_t count : {0, 1, 2, 7, 1000}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
        std::atomic<bool> bad{false};
        pool.parallel_for(count, nullptr, [&](int64_t i, int thread) {
          ++seen[static_cast<size_t>(i)];
          if (thread < 0 || thread >= threads) bad = true;
        });
        for (auto& s : seen)
          if (s != 1) return "an index ran " + std::to_string(s) + " times";
        if (bad) return std::string("thread number out of range");
      }
      return std::string();
    });
    test("core/pool rethrows the exception and goes on" + n, [=] {
      ThreadPool pool(threads);
      for (int round = 0; round < 20; ++round) {
        try {
          pool.parallel_for(50, nullptr, [](int64_t i, int) {
            if (i == 13) throw Error(ErrorCode::io, "thirteen");
          });
          return "no exception";
        } catch (const Error& error) {
          if (std::string(error.what()) != "thirteen") return "another exception";
        }
        std::atomic<int> sum{0};
        pool.parallel_for(50, nullptr, [&](int64_t, int) { ++sum; });
        if (sum != 50) return "the pool is broken after an exception";
      }
      return "";
    });
    test("core/pool cancellation" + n, [=] {
      ThreadPool pool(threads);
      CancelToken token;
      std::atomic<int> ran{0};
      try {
        pool.parallel_for(100000, &token, [&](int64_t i, int) {
          ++ran;
          if (i == 10) token.cancel();
        });
        return "no Cancelled";
      } catch (const Cancelled&) {
      }
      if (ran > 90000) return "tasks went on after cancellation";
      try {
        pool.parallel_for(1, &token, [&](int64_t, int) { ran = -1; });
      } catch (const Cancelled&) {
      }
      return ran == -1 ? "a cancelled token did not stop a later call" : "";
    });
    test("core/pool concurrent callers" + n, [=] {
      ThreadPool pool(threads);
      std::atomic<int64_t> total{0};
      std::vector<std::thread> callers;
      for (int caller = 0; caller < 4; ++caller)
        callers.emplace_back([&] {
          for (int round = 0; round < 50; ++round) {
            std::atomic<int64_t> sum{0};
            pool.parallel_for(20, nullptr, [&](int64_t i, int) { sum += i; });
            total += sum;
          }
        });
      for (auto& caller : callers) caller.join();
      return total == 4 * 50 * 190 ? "" : "work was lost or done twice";
    });
  }
  test("core/pool resize", [] {
    ThreadPool pool(1);
    for (int threads : {3, 1, 2, 4}) {
      pool.resize(threads);
      if (pool.threads() != threads) return "threads() disagrees";
      std::atomic<int> sum{0};
      pool.parallel_for(100, nullptr, [&](int64_t, int) { ++sum; });
      if (sum != 100) return "lost tasks";
    }
    for (int threads : {0, 257}) {
      try {
        pool.resize(threads);
        return "no error";
      } catch (const Error& error) {
        if (error.code() != ErrorCode::invalid_argument) return "wrong code";
      }
    }
    return "";
  });
}

void tables() {
  test("core/kernels ref is last and names differ", [] {
    int count = 0;
    const Kernels* const* list = available_kernels(&count);
    std::set<std::string> names;
    for (int i = 0; i < count; ++i) names.insert(list[i]->name);
    return count > 0 && names.size() == static_cast<size_t>(count) &&
                   std::string(list[count - 1]->name) == "ref"
               ? ""
               : "wrong list";
  });
  test("core/kernels unknown name", [] {
    // The choice is remembered only once it succeeds, so a refused name can be tried before.
    // No other thread reads the environment.
    setenv("NODE_DIFFUSION_KERNELS", "sse9", 1);  // NOLINT(concurrency-mt-unsafe)
    std::string why = "no error";
    try {
      best_kernels();
    } catch (const Error& error) {
      why = error.code() == ErrorCode::invalid_argument &&
                    std::string(error.what()).find("ref") != std::string::npos
                ? ""
                : error.what();
    }
    setenv("NODE_DIFFUSION_KERNELS", "ref", 1);  // NOLINT(concurrency-mt-unsafe)
    if (why.empty() && std::string(best_kernels().name) != "ref") why = "the cap was ignored";
    return why;
  });
}

const Register suite([] {
  arena();
  thread_pool();
  tables();
});

}  // namespace
}  // namespace nd::test
