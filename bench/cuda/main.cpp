// cuda-bench [trial] [unet] [vae] [pictures] [kernels] [--model sd15 | sdxl]… [--size PIXELS]…
// [--weights q8_0] [--check] [--json FILE] [--repetitions N] [--image FILE] [--shrink N]
// [--device emulated | counted]: times of the CUDA backend on the first GPU. trial: tries Hopper's kernels as
// loading a model does; what follows uses what it finds. --model and --size choose what unet and pictures
// measure; without them, Stable Diffusion 1.5 at all sizes. The emulator's times say nothing; it is there to
// try the program. Nor do those of `counted`, which computes nothing and counts memory, without a GPU.
// cuda-bench plan [--json FILE]: modelled times, which need no GPU.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "counted_memory.h"
#include "counting_driver.h"
#include "kernels.h"
#include "models.h"
#include "pictures.h"
#include "plan.h"
#include "trial.h"
#ifdef ND_CUDA_EMULATOR
#include "driver.h"
#endif

namespace {

using namespace nd;

int whole(const std::string& text) {
  return static_cast<int>(std::strtol(text.c_str(), nullptr, 10));
}

const cuda::Driver& driver_of(bool emulated, bool trial) {
#ifdef ND_CUDA_EMULATOR
  if (emulated && trial) {
    // The trial's large products would take the emulator hours: it does not compute them.
    emu::driver_options.multiprocessors = 64;
    emu::driver_options.launch_time = [](const char*, int64_t blocks, const void*) {
      return static_cast<double>(blocks);
    };
  }
  if (emulated) return emu::driver();
#else
  (void)trial;
  if (emulated) throw Error(ErrorCode::device_unavailable, "This build has no emulator");
#endif
  return cuda::system_driver();
}

void run(int argc, char** argv) {
  cuda_bench::Options options;
  options.image = ND_CUDA_IMAGE;
  std::vector<std::string> models;
  bool check = false, kernels = false, unet = false, vae = false, pictures = false, plan = false,
       trial = false, counted = false;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    if (arg == "kernels") kernels = true;
    if (arg == "unet") unet = true;
    if (arg == "vae") vae = true;
    if (arg == "pictures") pictures = true;
    if (arg == "plan") plan = true;
    if (arg == "trial") trial = true;
    if (arg == "--check") check = true;
    if (arg == "--weights") options.weights = tensor_type(value);
    if (arg == "--json") options.json = value;
    if (arg == "--image") options.image = value;
    if (arg == "--repetitions") options.repetitions = whole(value);
    if (arg == "--shrink") options.shrink = whole(value);
    if (arg == "--device") options.emulated = value == "emulated", counted = value == "counted";
    if (arg == "--model") models.push_back(value);
    if (arg == "--size") options.sizes.push_back(whole(value));
  }
  if (!models.empty()) options.models = models;
  cuda_bench::Report report;
  if (plan) {
    cuda_bench::model_steps(report);
    return report.write(options.json);
  }
  std::vector<char> image;
  if (!options.emulated && !counted) {
    std::ifstream file(options.image, std::ios::binary);
    image.assign(std::istreambuf_iterator<char>(file), {});
    if (image.empty()) throw Error(ErrorCode::io, options.image + " cannot be read");
  }
  const cuda::Driver& driver = counted ? cuda_bench::counting_driver() : driver_of(options.emulated, trial);
  cuda::CudaBackend backend(cuda_bench::count_memory(driver), 0, image);
  cuda::Device& device = backend.device();
  report.set("device", device.name());
  report.set("capability", std::to_string(device.capability()));
  report.set("multiprocessors", std::to_string(device.multiprocessors()));
  if (trial) cuda_bench::try_kernels(backend, image, report);
  report.write(options.json);
  // What matters most comes first, and each part is written as soon as it is there.
  if (unet) cuda_bench::time_unet(backend, options, check, report);
  report.write(options.json);
  if (vae) cuda_bench::time_vae(backend, options, check, report);
  report.write(options.json);
  if (pictures) device.keep_spare_blocks();  // as open_device() does
  if (pictures) cuda_bench::time_pictures(backend, options, report);
  report.write(options.json);
  if (kernels) cuda_bench::time_kernels(backend, options, report);
  report.write(options.json);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
