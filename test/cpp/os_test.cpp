// The operating system's layer: pages, files, CPU counts.
#include "core/os.h"

#include <fstream>
#include <string>
#include <vector>

#include "core/cpu_count.h"
#include "core/linux_cpus.h"
#include "harness.h"

namespace nd::test {
namespace {

namespace fs = std::filesystem;

template <class Check>
void test(const std::string& name, Check check) {
  if (wanted(name)) report(name, check());
}

void write(const fs::path& path, const std::string& content) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

void memory() {
  test("os/ pages are zeroed and can be written to the last byte", [] {
    const size_t bytes = (size_t{3} << 20) + 1;
    auto* pages = static_cast<uint8_t*>(os::allocate_pages(bytes));
    if (!pages) return std::string("no pages");
    os::prefer_huge_pages(pages, bytes);
    std::string why;
    for (size_t i = 0; i < bytes; ++i) {
      if (pages[i] != 0) why = "byte " + std::to_string(i) + " is not zero";
      pages[i] = 1;
    }
    os::release_pages(pages, bytes);
    return why;
  });
  test("os/ more pages than there can be are refused",
       [] { return os::allocate_pages(size_t{1} << 60) ? "they were allocated" : ""; });
  test("os/ aligned memory", [] {
    for (const size_t bytes : {size_t{1}, size_t{63}, size_t{64}, size_t{1000}}) {
      void* memory = os::allocate_aligned(bytes);
      const bool aligned = memory && reinterpret_cast<uintptr_t>(memory) % 64 == 0;
      os::free_aligned(memory);
      if (!aligned) return "not for " + std::to_string(bytes) + " bytes";
    }
    return std::string();
  });
}

/// Writes a file, opens it, and reads it from byte 2 on, past its end.
std::string read_back(const fs::path& path) {
  write(path, "0123456789");
  const os::File file(path.u8string());
  if (!file.is_open()) return "could not open it: " + os::last_error();
  os::FileState state;
  if (!file.state(state) || !state.regular || state.size != 10) return "wrong state";
  uint8_t out[20];
  const int64_t count = file.read(2, sizeof out, out);
  if (count != 8 || std::memcmp(out, "23456789", 8) != 0) return "read " + std::to_string(count) + " bytes";
  return file.read(10, sizeof out, out) == 0 ? "" : "no end";
}

void files() {
  test("os/ a file whose name is not ASCII", [] {
    const fs::path folder = temporary_path("Größe-模型-🖼");
    std::string why = read_back(folder / fs::u8path("größe 模型 🖼.bin"));
    fs::remove_all(folder);
    return why;
  });
#ifndef _WIN32  // std::filesystem cannot create it there; the TypeScript tests can
  test("os/ a file with a long path", [] {
    const fs::path folder = temporary_path("long");
    fs::path path = folder;
    for (int i = 0; i < 6; ++i) path /= std::string(100, static_cast<char>('a' + i));
    std::string why = read_back(path / "file.bin");
    fs::remove_all(folder);
    return why;
  });
#endif
  test("os/ an open file can be renamed and deleted", [] {
    const fs::path path = temporary_path("open"), moved = temporary_path("moved");
    write(path, "content");
    const os::File file(path.u8string());
    std::error_code error;
    fs::rename(path, moved, error);
    if (error) return "rename: " + error.message();
    if (!fs::remove(moved, error) || error) return "remove: " + error.message();
    uint8_t out[7];
    return file.read(0, sizeof out, out) == 7 && std::memcmp(out, "content", 7) == 0
               ? std::string()
               : "cannot be read any more: " + os::last_error();
  });
  test("os/ a missing file says why", [] {
    const os::File file(temporary_path("missing").u8string());
    return !file.is_open() && !os::last_error().empty() ? "" : "it was opened";
  });
  test("os/ a folder is no regular file", [] {
    const os::File file(fs::temp_directory_path().u8string());
    os::FileState state;
    return file.is_open() && file.state(state) && !state.regular ? "" : "it is one";
  });
}

/// A folder of files that a test fills.
class Tree {
 public:
  explicit Tree(const std::string& name) : root_(temporary_path(name)) {}
  ~Tree() { fs::remove_all(root_); }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;
  Tree& add(const std::string& path, const std::string& content) {
    write(root_ / path, content);
    return *this;
  }
  std::string root() const { return root_.string(); }

 private:
  fs::path root_;
};

double quota_of(const std::string& file, const std::string& content, const std::string& groups) {
  return cgroup_quota(Tree("cgroup").add(file, content).add("cpu/cpu.cfs_period_us", "50000").root(), groups);
}

void quotas() {
  test("os/quota of a container", [] {
    if (quota_of("cpu.max", "150000 100000\n", "0::/\n") != 1.5) return "a quota of 1.5 CPUs";
    if (quota_of("cpu.max", "max 100000\n", "0::/\n") != 0) return "no quota";
    if (quota_of("cpu.max", "", "0::/\n") != 0) return "an empty file";
    if (quota_of("cpu.max", "150000 100000\n", "0::/docker/1234\n") != 1.5) return "a path of the host";
    if (quota_of("cpu/cpu.cfs_quota_us", "100000", "4:cpu,cpuacct:/\n") != 2) return "version 1";
    if (quota_of("cpu/cpu.cfs_quota_us", "-1", "4:cpu,cpuacct:/\n") != 0) return "version 1 without a limit";
    return cgroup_quota("/nowhere", "") == 0 && physical_cores() >= 1 ? "" : "no control groups";
  });
  test("os/quota of a service is the lowest up to the root", [] {
    Tree tree("nested");
    tree.add("app.slice/cpu.max", "200000 100000\n").add("app.slice/a.service/cpu.max", "max 100000\n");
    if (cgroup_quota(tree.root(), "0::/app.slice/a.service\n") != 2) return "that of the slice";
    tree.add("app.slice/a.service/cpu.max", "50000 100000\n");
    if (cgroup_quota(tree.root(), "0::/app.slice/a.service\n") != 0.5) return "that of the service";
    if (cgroup_quota(tree.root(), "0::/\n") != 0) return "of another service";
    tree.add("cpu/app.slice/cpu.cfs_quota_us", "300000").add("cpu/app.slice/cpu.cfs_period_us", "100000");
    return cgroup_quota(tree.root(), "3:memory:/x\n4:cpu,cpuacct:/app.slice/b.service\n") == 3 ? ""
                                                                                               : "version 1";
  });
}

void cores() {
  const auto cpu = [](Tree& tree, int index, int core, const std::string& capacity) {
    const std::string folder = "system/cpu/cpu" + std::to_string(index) + "/";
    tree.add(folder + "topology/core_id", std::to_string(core))
        .add(folder + "topology/physical_package_id", "0");
    if (!capacity.empty()) tree.add(folder + "cpu_capacity", capacity);
  };
  test("os/cores with two threads each count once", [&] {
    Tree tree("smt");
    for (int i = 0; i < 8; ++i) cpu(tree, i, i % 4, "");
    if (linux_cores(tree.root(), {0, 1, 2, 3, 4, 5, 6, 7}) != 4) return "all";
    return linux_cores(tree.root(), {0, 4}) == 1 ? "" : "two threads of one core";
  });
  test("os/cores of a hybrid CPU", [&] {
    Tree tree("hybrid");
    for (int i = 0; i < 4; ++i) cpu(tree, i, i / 2, "");  // two performance cores with two threads each
    for (int i = 4; i < 8; ++i) cpu(tree, i, i, "");      // four efficiency cores
    tree.add("cpu_core/cpus", "0-3\n").add("cpu_atom/cpus", "4-7\n");
    if (linux_cores(tree.root(), {0, 1, 2, 3, 4, 5, 6, 7}) != 2) return "all";
    return linux_cores(tree.root(), {4, 5, 6}) == 3 ? "" : "efficiency cores alone";
  });
  test("os/cores of big.LITTLE", [&] {
    Tree tree("arm");
    const char* capacities[] = {"250", "250", "250", "250", "870", "870", "1024"};
    for (int i = 0; i < 7; ++i) cpu(tree, i, i, capacities[i]);
    if (linux_cores(tree.root(), {0, 1, 2, 3, 4, 5, 6}) != 3) return "all";
    return linux_cores(tree.root(), {0, 1}) == 2 ? "" : "small cores alone";
  });
  test("os/cores without a topology", [] {
    return linux_cores("/nowhere", {0, 1, 5}) == 3 ? "" : "not every CPU counts";
  });
}

const Register suite([] {
  memory();
  files();
  quotas();
  cores();
});

}  // namespace
}  // namespace nd::test
