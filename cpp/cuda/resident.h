// Tensors of a denoising run in a GPU's memory, and the kernels that compute with them between forwards.
#pragma once
#include <memory>
#include <vector>

#include "core/arena.h"
#include "cuda/device.h"
#include "nn/resident.h"

namespace nd::cuda {

class Resident final : public ResidentTensors {
 public:
  /// `memory` is that of the device.
  Resident(Device& device, Memory& memory, int64_t images, int64_t elements, int64_t further)
      : ResidentTensors(images, elements, further),
        device_(device),
        memory_(memory),
        reserved_(memory),
        checks_(memory),
        given_(memory) {}

  static Resident& of(ResidentTensors& tensors) { return static_cast<Resident&>(tensors); }

  void stage(ResidentProgram program) override;
  void describe(std::vector<uint64_t>& key) const override;
  ResidentChecks read(ResidentProgram program, const std::vector<int64_t>& tensors, float* out,
                      const CancelToken* cancel) override;

  /// Of a tensor that was staged before. The reserved ones lie one after the other, and stay where they are.
  Address address(int64_t tensor) const;
  /// The further input channels; null before they were staged.
  float* further_channels() const;
  /// Puts what was staged into the stream, once.
  void run_staged(Staging& staging);

 private:
  size_t further_bytes() const { return static_cast<size_t>(further()) * sizeof(float); }
  size_t bytes() const { return static_cast<size_t>(elements()) * sizeof(float); }
  void make_room(int64_t tensor);
  /// The longest run of operations from `first` on that one kernel computes; where the next one begins.
  size_t launch_operations(const std::vector<ResidentOperation>& operations, size_t first,
                           StreamHandle stream) const;
  void launch_rescale(const ResidentOperation& operation, StreamHandle stream) const;

  Device& device_;
  Memory& memory_;
  // Each is one block; empty before something was staged that needs it.
  Arena reserved_, checks_;                     // checks_: two marks, see StepArgs
  Arena given_;                                 // the further input channels
  std::vector<std::unique_ptr<Arena>> others_;  // by number, behind the reserved ones
  ResidentProgram staged_;
  uint32_t programs_ = 0;  // that were run
};

}  // namespace nd::cuda
