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
  if (kind == Kind::edit) return StepKind::edit;
  return kind == Kind::clamp ? StepKind::clamp : StepKind::combine;
}

}  // namespace

Address Resident::address(int64_t tensor) const {
  if (tensor < kReserved) return reserved_.base() + static_cast<size_t>(tensor) * bytes();
  return others_[static_cast<size_t>(tensor - kReserved)]->base();
}

float* Resident::further_channels() const {
  return pointer<float>(given_.base());
}

void Resident::describe(std::vector<uint64_t>& key) const {
  for (const Address block : {reserved_.base(), given_.base()}) key.push_back(block.value);
  for (const int64_t size : {images(), elements(), further()}) key.push_back(static_cast<uint64_t>(size));
}

void Resident::make_room(int64_t tensor) {
  reserved_.reserve(kReserved * bytes());
  checks_.reserve(2 * sizeof(uint32_t));
  if (tensor < kReserved) return;
  const size_t index = static_cast<size_t>(tensor - kReserved);
  if (index >= others_.size()) others_.resize(index + 1);
  if (!others_[index]) others_[index] = std::make_unique<Arena>(memory_);
  others_[index]->reserve(bytes());
}

void Resident::stage(ResidentProgram program) {
  make_room(kInput);
  if (!program.further.empty()) given_.reserve(further_bytes());
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
  const uint32_t none[2] = {0, 0};
  if (programs_++ == 0) staging.upload(checks_.base(), none, sizeof none);
  for (const ResidentProgram::Upload& upload : program.uploads)
    staging.upload(address(upload.tensor), upload.values.data(), bytes());
  if (!program.further.empty()) staging.upload(given_.base(), program.further.data(), further_bytes());
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
  args.checks = pointer<uint32_t>(checks_.base());
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
  staging.download(marks, checks_.base(), sizeof marks);
  return {program_of(marks[0]), program_of(marks[1])};
}

std::shared_ptr<ResidentTensors> CudaBackend::resident(int64_t images, int64_t elements, int64_t further) {
  return std::make_shared<Resident>(device_, memory_, images, elements, further);
}

Tensor CudaBackend::from_resident(ForwardContext& base, ResidentTensors& from, const ImageShape& shape,
                                  int64_t n) {
  Context& ctx = Context::of(base);
  Tensor out(ctx, n, shape.h, shape.w, shape.c);
  const int64_t images = from.images(), pixels = shape.h * shape.w, own = from.elements() / (images * pixels);
  const int64_t further = shape.c - own;
  Resident& resident = Resident::of(from);
  if (own * images * pixels != from.elements() || n % images != 0 || further < 0 ||
      n * further * pixels > from.further() || (further > 0 && !resident.further_channels()))
    throw Error(ErrorCode::invalid_argument, "Expected resident tensors of the latents' shape");
  // Recorded with the uploads, so a repeated forward runs what was staged for it.
  ctx.to_device_for(
      from, [](Staging& staging, ResidentTensors* tensors) { Resident::of(*tensors).run_staged(staging); });
  if (ctx.measuring()) return out;
  const auto element = [&](int64_t index) {
    return pointer<half>(out.address() + static_cast<size_t>(index) * element_bytes());
  };
  PlanarArgs args{};
  args.pixels = narrow(pixels), args.pitch = narrow(shape.c), args.scale = 1;
  args.planes = pointer<float>(resident.address(ResidentTensors::kInput));
  args.c = narrow(own);
  for (int64_t first = 0; first < n; first += images) {
    args.rows = element(first * shape.size());
    ctx.launch(Kernel::planar_to_rows, planar_tiles(images, own, pixels), args);
  }
  if (further == 0) return out;
  args.planes = resident.further_channels();
  args.c = narrow(further);
  args.rows = element(own);
  ctx.launch(Kernel::planar_to_rows, planar_tiles(n, further, pixels), args);
  return out;
}

void CudaBackend::to_resident(ForwardContext& base, const Tensor& x, ResidentTensors& to) {
  Context& ctx = Context::of(base);
  const int64_t times = x.size() / to.elements();
  if (times < 1 || times > 3 || x.size() != times * to.elements())
    throw Error(ErrorCode::invalid_argument, "Expected resident tensors of the prediction's shape");
  if (ctx.measuring()) return;
  float* const planes = pointer<float>(Resident::of(to).address(ResidentTensors::kPrediction));
  const PlanarArgs args{planes, data(x), narrow(x.c), narrow(x.pixels()), narrow(x.c), 1.0f, 0.0f};
  ctx.launch(Kernel::rows_to_planar, planar_tiles(x.n, x.c, x.pixels()), args);
}

}  // namespace nd::cuda
