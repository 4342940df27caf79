#include "cuda/resident.h"

#include <utility>

#include "core/error.h"
#include "cuda/backend.h"

namespace nd::cuda {
namespace {

/// The mark of the first program. Later ones have smaller marks, so that the earliest is the greatest.
constexpr uint32_t kFirstMark = ~uint32_t{0};

int64_t program_of(uint32_t mark) {
  return mark == 0 ? 0 : int64_t{kFirstMark} - mark + 1;
}

Grid planar_tiles(int64_t n, int64_t c, int64_t pixels) {
  return {pieces_of(pixels, kTransposeTile), pieces_of(c, kTransposeTile), n};
}

StepKind kind_of(ResidentOperation::Kind kind) {
  using Kind = ResidentOperation::Kind;
  if (kind == Kind::guide) return StepKind::guide;
  if (kind == Kind::blend) return StepKind::blend;
  return kind == Kind::clamp ? StepKind::clamp : StepKind::combine;
}

}  // namespace

Address Resident::address(int64_t tensor) const {
  if (tensor < kReserved) return reserved_.address() + static_cast<size_t>(tensor) * bytes();
  return buffers_[static_cast<size_t>(tensor - kReserved)].address();
}

void Resident::make_room(int64_t tensor) {
  if (!reserved_) {
    reserved_ = Buffer(device_, kReserved * bytes());
    checks_ = Buffer(device_, 2 * sizeof(uint32_t));
    const uint32_t none[2] = {0, 0};
    checks_.fill(none, sizeof none);
  }
  if (tensor < kReserved) return;
  const size_t index = static_cast<size_t>(tensor - kReserved);
  if (index >= buffers_.size()) buffers_.resize(index + 1);
  if (!buffers_[index]) buffers_[index] = Buffer(device_, bytes());
}

void Resident::stage(ResidentProgram program) {
  make_room(kInput);
  for (const ResidentProgram::Upload& upload : program.uploads) make_room(upload.tensor);
  for (const ResidentOperation& operation : program.operations) {
    make_room(operation.out);
    for (const ResidentOperation::Term& term : operation.terms) make_room(term.tensor);
  }
  staged_ = std::move(program);
}

void Resident::run_staged(Staging& staging) {
  StreamHandle stream = staging.stream();
  const ResidentProgram program = std::exchange(staged_, {});
  ++programs_;
  for (const ResidentProgram::Upload& upload : program.uploads)
    staging.upload(address(upload.tensor), upload.values.data(), bytes());
  const std::vector<ResidentOperation>& operations = program.operations;
  for (size_t next = 0; next < operations.size();) {
    if (operations[next].kind == ResidentOperation::Kind::rescale)
      launch_rescale(operations[next++], stream);
    else
      next = launch_operations(operations, next, stream);
  }
}

size_t Resident::launch_operations(const std::vector<ResidentOperation>& operations, size_t first,
                                   StreamHandle stream) const {
  StepArgs args{};
  args.count = elements();
  args.checks = pointer<uint32_t>(checks_.address());
  args.mark = kFirstMark - (programs_ - 1);
  size_t next = first;
  for (; next < operations.size() && args.operations < kStepOperations; ++next) {
    const ResidentOperation& from = operations[next];
    if (from.kind == ResidentOperation::Kind::rescale) break;
    StepOperation& to = args.operation[args.operations++];
    to.y = pointer<float>(address(from.out));
    to.kind = kind_of(from.kind);
    to.check = static_cast<StepCheck>(from.check);
    to.terms = narrow(static_cast<int64_t>(from.terms.size()));
    for (size_t t = 0; t < from.terms.size(); ++t)
      to.term[t] = {pointer<const float>(address(from.terms[t].tensor)), from.terms[t].factor};
  }
  device_.launch(stream, Kernel::step_operations, {pieces_of(elements(), kMoveThreads)}, args);
  return next;
}

void Resident::launch_rescale(const ResidentOperation& operation, StreamHandle stream) const {
  RescaleArgs args{};
  args.conditional = pointer<const float>(address(operation.terms[0].tensor));
  args.guided = pointer<const float>(address(operation.terms[1].tensor));
  args.y = pointer<float>(address(operation.out));
  args.count = elements() / images();
  args.rescale = operation.terms[0].factor;
  device_.launch(stream, Kernel::step_rescale, {images()}, args);
}

ResidentChecks Resident::read(ResidentProgram program, const std::vector<int64_t>& tensors, float* out,
                              const CancelToken* cancel) {
  stage(std::move(program));
  for (const int64_t tensor : tensors) make_room(tensor);
  if (cancel) cancel->check();
  const Device::Current current(device_);
  const Device::Stream stream(device_);
  Staging& staging = stream.staging();
  run_staged(staging);
  for (const int64_t tensor : tensors) {
    staging.download(out, address(tensor), bytes());
    out += elements();
  }
  uint32_t marks[2] = {0, 0};
  staging.download(marks, checks_.address(), sizeof marks);
  return {program_of(marks[0]), program_of(marks[1])};
}

std::shared_ptr<ResidentTensors> CudaBackend::resident(int64_t images, int64_t elements) {
  return std::make_shared<Resident>(device_, images, elements);
}

Tensor CudaBackend::from_resident(ForwardContext& base, ResidentTensors& from, const ImageShape& shape,
                                  int64_t n) {
  Context& ctx = Context::of(base);
  Tensor out(ctx, n, shape.h, shape.w, shape.c);
  const int64_t images = from.images();
  if (images * shape.size() != from.elements() || n % images != 0)
    throw Error(ErrorCode::invalid_argument, "Expected resident tensors of the latents' shape");
  // Recorded with the uploads, so a repeated forward runs what was staged for it.
  ctx.to_device(out.address(),
                [&resident = Resident::of(from)](Staging& staging) { resident.run_staged(staging); });
  if (ctx.measuring()) return out;
  float* const planes = pointer<float>(Resident::of(from).address(ResidentTensors::kInput));
  for (int64_t first = 0; first < n; first += images) {
    const Address to = out.address() + static_cast<size_t>(first * shape.size()) * element_bytes();
    const PlanarArgs args{planes, pointer<half>(to), narrow(shape.c), narrow(shape.h * shape.w), 1.0f, 0.0f};
    ctx.launch(Kernel::planar_to_rows, planar_tiles(images, shape.c, shape.h * shape.w), args);
  }
  return out;
}

void CudaBackend::to_resident(ForwardContext& base, const Tensor& x, ResidentTensors& to) {
  Context& ctx = Context::of(base);
  if (x.size() != to.elements() && x.size() != 2 * to.elements())
    throw Error(ErrorCode::invalid_argument, "Expected resident tensors of the prediction's shape");
  if (ctx.measuring()) return;
  float* const planes = pointer<float>(Resident::of(to).address(ResidentTensors::kPrediction));
  const PlanarArgs args{planes, data(x), narrow(x.c), narrow(x.pixels()), 1.0f, 0.0f};
  ctx.launch(Kernel::rows_to_planar, planar_tiles(x.n, x.c, x.pixels()), args);
}

}  // namespace nd::cuda
