// Thread pool and executors.
#ifndef _WIN32
#include <sys/resource.h>
#endif

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include "core/cpu_count.h"
#include "core/error.h"
#include "core/executor.h"
#include "core/thread_pool.h"
#include "cpu/context.h"
#include "failing_threads.h"
#include "harness.h"
#include "cpu/kernels/kernels.h"

namespace nd::test {
namespace {

template <class Check>
void test(const std::string& name, Check check) {
  if (wanted(name)) report(name, check());
}

#ifndef _WIN32
/// Of all threads of this process so far, whether a thread waited or lost its CPU to another.
int64_t context_switches() {
  struct rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nvcsw + usage.ru_nivcsw;
}
#endif

void thread_pool() {
#ifdef ND_TEST_FAILING_THREADS
  test("core/pool works with the threads that the system starts", [] {
    failing_threads::after(2);
    ThreadPool pool(6);
    if (pool.threads() != 3) return "the pool has " + std::to_string(pool.threads()) + " threads";
    std::atomic<int> done{0};
    pool.parallel_for(100, nullptr, [&](int64_t, int) { ++done; });
    failing_threads::after(0);
    pool.resize(4);
    pool.parallel_for(100, nullptr, [&](int64_t, int) { ++done; });
    failing_threads::after(-1);
    if (pool.threads() != 1)
      return "without workers the pool has " + std::to_string(pool.threads()) + " threads";
    pool.resize(4);
    pool.parallel_for(100, nullptr, [&](int64_t, int) { ++done; });
    return done == 300 && pool.threads() == 4 ? std::string() : std::string("work is missing");
  });
#endif
#ifndef _WIN32
  test("core/pool with more threads than CPUs does not switch between all of them", [] {
    constexpr int kThreads = 48, kRounds = 300;
    ThreadPool pool(kThreads);
    std::atomic<int64_t> sum{0};
    const auto rounds = [&] {
      for (int round = 0; round < kRounds; ++round) {
        pool.parallel_for(2, nullptr, [&](int64_t, int) {
          for (int i = 0; i < 20000; ++i) sum.fetch_add(i, std::memory_order_relaxed);
        });
      }
    };
    if (logical_cpus() >= kThreads) return std::string();  // then every thread has a CPU
    rounds();
    const int64_t before = context_switches();
    rounds();
    const double each = static_cast<double>(context_switches() - before) / kRounds;
    // Two tasks need one worker; waking every worker takes at least kThreads − 1 switches.
    return each < kThreads / 2.0 ? std::string() : std::to_string(each) + " switches for each parallel_for";
  });
#endif
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
    test("core/pool rethrows an exception and stays usable" + n, [=] {
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
      if (ran > 90000) return "tasks ran after cancellation";
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
      return total == 4 * 50 * 190 ? "" : "tasks were lost or ran twice";
    });
  }
  test("core/pool threads() and resize() do not wait for running work", [] {
    ThreadPool pool(2);
    std::atomic<bool> running{false}, asked{false};
    std::thread caller([&] {
      pool.parallel_for(2, nullptr, [&](int64_t, int) {
        running = true;
        while (!asked) std::this_thread::yield();
      });
    });
    while (!running) std::this_thread::yield();
    pool.resize(3);  // would wait for ever
    const int threads = pool.threads();
    asked = true;
    caller.join();
    return threads == 3 ? "" : "threads() does not say what was set";
  });
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
  test("core/kernels the reference is last and names are unique", [] {
    int count = 0;
    const cpu::Kernels* const* list = cpu::available_kernels(&count);
    std::set<std::string> names;
    for (int i = 0; i < count; ++i) names.insert(list[i]->name);
    return count > 0 && names.size() == static_cast<size_t>(count) &&
                   std::string(list[count - 1]->name) == "ref"
               ? ""
               : "wrong list";
  });
  test("core/kernels the portable table is the same on every CPU of an architecture", [] {
#if defined(ND_X86_KERNELS)
    const std::string expected = "avx2";
#elif defined(ND_NEON_KERNELS)
    const std::string expected = "neon";
#else
    const std::string expected = "ref";
#endif
    int count = 0;
    const cpu::Kernels* const* list = cpu::available_kernels(&count);
    const bool there =
        std::any_of(list, list + count, [&](const cpu::Kernels* one) { return one->name == expected; });
    try {
      const std::string name = cpu::portable_kernels().name;
      return there && name == expected ? "" : "wrong table: " + name;
    } catch (const Error& error) {
      return !there && error.code() == ErrorCode::device_unavailable ? "" : std::string(error.what());
    }
  });
  test("core/kernels an unknown name is refused", [] {
    // The choice is remembered only once it succeeds, so a refused name can be tried before.
    set_environment("NODE_DIFFUSION_KERNELS", "sse9");
    std::string why = "no error";
    try {
      cpu::best_kernels();
    } catch (const Error& error) {
      why = error.code() == ErrorCode::invalid_argument &&
                    std::string(error.what()).find("ref") != std::string::npos
                ? ""
                : error.what();
    }
    set_environment("NODE_DIFFUSION_KERNELS", "ref");
    if (why.empty() && std::string(cpu::best_kernels().name) != "ref") why = "the cap was ignored";
    return why;
  });
}

void executor() {
  test("core/executor runs calls beside each other, up to its limit", [] {
    Executor executor(3);
    std::atomic<int> running{0}, most{0}, done{0};
    for (int i = 0; i < 20; ++i)
      executor.submit([&] {
        const int now = ++running;
        int seen = most;
        while (now > seen && !most.compare_exchange_weak(seen, now)) {
        }
        // The first three wait for each other: they must run at once.
        while (done + running < 3) std::this_thread::yield();
        --running, ++done;
      });
    while (done < 20) std::this_thread::yield();
    if (executor.threads() > 3) return "it has " + std::to_string(executor.threads()) + " threads";
    return most > 3 ? std::string("more than three at once") : std::string();
  });
  test("core/executor finishes its calls before it goes", [] {
    std::atomic<int> done{0};
    {
      Executor executor(2);
      for (int i = 0; i < 50; ++i) executor.submit([&] { ++done; });
    }
    return done == 50 ? "" : "calls were lost";
  });
#ifdef ND_TEST_FAILING_THREADS
  test("core/executor says so where no thread can be started, and works with one", [] {
    Executor executor(4);
    std::atomic<int> done{0};
    failing_threads::after(0);
    bool refused = false;
    try {
      executor.submit([&] { ++done; });
    } catch (const Error& error) {
      refused = error.code() == ErrorCode::out_of_memory;
    }
    failing_threads::after(1);
    for (int i = 0; i < 10; ++i) executor.submit([&] { ++done; });
    failing_threads::after(-1);
    while (done < 10) std::this_thread::yield();
    return !refused ? "no error" : executor.threads() == 1 ? "" : "more threads than the system started";
  });
#endif
}

const Register suite([] {
  executor();
  thread_pool();
  tables();
});

}  // namespace
}  // namespace nd::test
