#include "resident.h"

#include <cmath>
#include <mutex>
#include <utility>
#include <vector>

#include "addon.h"
#include "cancel_token.h"
#include "core/error.h"
#include "failure.h"
#include "job.h"
#include "native_object.h"

namespace nd_binding {
namespace {

using Operation = nd::ResidentOperation;
using Tensors = nd::ResidentTensors;

struct State {
  std::shared_ptr<nd::cuda::CudaBackend> device;  // outlives the tensors
  std::shared_ptr<Tensors> tensors;
};

std::shared_ptr<State> state_of(const NativeObject& object) {
  if (!object.content()) throw nd::Error(nd::ErrorCode::disposed, "This ResidentTensors has been disposed");
  return std::static_pointer_cast<State>(object.content());
}

std::shared_ptr<Tensors> tensors_of(const std::shared_ptr<State>& state) {
  return {state, state->tensors.get()};
}

/// Reads the numbers of operations one after the other.
class Numbers {
 public:
  Numbers(std::vector<double> values, std::string name)
      : values_(std::move(values)), name_(std::move(name)) {}

  bool more() const { return next_ < values_.size(); }
  double number() {
    if (!more()) throw TypeFailure{"Expected complete operations for " + name_};
    return values_[next_++];
  }
  int64_t integer(int64_t min, int64_t max) {
    const double value = number();
    if (!(value >= static_cast<double>(min) && value <= static_cast<double>(max)) ||
        value != std::floor(value))
      throw TypeFailure{"Expected known operations and tensors for " + name_};
    return static_cast<int64_t>(value);
  }

 private:
  std::vector<double> values_;
  std::string name_;
  size_t next_ = 0;
};

/// How many terms an operation has; 0: any number.
int64_t terms_of(Operation::Kind kind) {
  if (kind == Operation::Kind::combine) return 0;
  if (kind == Operation::Kind::blend || kind == Operation::Kind::edit) return 3;
  return kind == Operation::Kind::clamp ? 1 : 2;
}

/// Kind, check, out, the number of terms; then a factor and a tensor for each.
Operation read_operation(Numbers& numbers) {
  constexpr int64_t last = Tensors::kMaxTensors - 1;
  Operation result;
  result.kind = static_cast<Operation::Kind>(numbers.integer(0, static_cast<int>(Operation::Kind::edit)));
  result.check =
      static_cast<Operation::Check>(numbers.integer(0, static_cast<int>(Operation::Check::latents)));
  result.out = numbers.integer(0, last);
  const int64_t wanted = terms_of(result.kind);
  const int64_t terms =
      wanted == 0 ? numbers.integer(1, int64_t{Tensors::kMaxTerms}) : numbers.integer(wanted, wanted);
  for (int64_t t = 0; t < terms; ++t) {
    const double factor = numbers.number();
    result.terms.push_back({factor, numbers.integer(0, last)});
  }
  return result;
}

Napi::Value read(NativeObject& self, const Napi::CallbackInfo& info) {
  const std::shared_ptr<Tensors> tensors = tensors_of(state_of(self));
  const Fields call(info[0], "call");
  auto program = std::make_shared<nd::ResidentProgram>(read_program(call, "program", *tensors));
  const auto wanted = call.integers("tensors", 0, Tensors::kMaxTensors - 1, Tensors::kMaxTensors);
  auto checks = std::make_shared<nd::ResidentChecks>();
  const Output<float> output(info.Env(), static_cast<int64_t>(wanted.size()) * tensors->elements());
  return run_async(
      info.Env(), CancelTokenWrap::from(info[1], "cancel"),
      [tensors, program, wanted, checks, output](const nd::CancelToken& cancel) {
        const std::lock_guard<std::mutex> lock(tensors->mutex);
        *checks = tensors->read(std::move(*program), wanted, output.data(), &cancel);
      },
      [checks, output](Napi::Env env) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("data", output.value());
        result.Set("badPrediction", static_cast<double>(checks->prediction));
        result.Set("badLatents", static_cast<double>(checks->latents));
        return result;
      });
}

// A running call keeps the tensors, so this thread does not wait for it.
Napi::Value dispose(NativeObject& self, const Napi::CallbackInfo& info) {
  return self.dispose(info.Env());
}

constexpr NativeMember kMembers[] = {
    {NativeMember::Kind::method, "read", read},
    {NativeMember::Kind::method, "dispose", dispose},
};
constexpr NativeClass kClass = {"ResidentTensors", nullptr, true, nullptr, {kMembers}};

}  // namespace

nd::ResidentProgram read_program(const Fields& call, const char* key, const Tensors& tensors) {
  const Fields fields(call.get(key), call.name(key));
  nd::ResidentProgram program;
  const Napi::Array uploads = to_array(fields.get("uploads"), fields.name("uploads"));
  if (uploads.Length() > Tensors::kMaxTensors)
    throw TypeFailure{"Expected fewer elements for " + fields.name("uploads")};
  for (uint32_t i = 0; i < uploads.Length(); ++i) {
    const Fields upload(uploads[i], fields.name("uploads") + "[" + std::to_string(i) + "]");
    program.uploads.push_back(
        {upload.integer("tensor", 0, Tensors::kMaxTensors - 1), upload.floats("values", tensors.elements())});
  }
  if (fields.has("further")) program.further = fields.floats("further", tensors.further());
  Numbers numbers(to_doubles(fields.get("operations"), fields.name("operations")), fields.name("operations"));
  while (numbers.more()) program.operations.push_back(read_operation(numbers));
  return program;
}

ResidentInput read_resident(const Fields& call, const std::shared_ptr<nd::cuda::CudaBackend>& device) {
  const Fields fields(call.get("resident"), call.name("resident"));
  ResidentInput input;
  input.tensors = ResidentTensorsWrap::from(fields.get("tensors"), fields.name("tensors"), device);
  input.program = std::make_shared<nd::ResidentProgram>(read_program(fields, "program", *input.tensors));
  return input;
}

Napi::Function ResidentTensorsWrap::define(Napi::Env env) {
  return NativeObject::define(env, kClass);
}

Napi::Value ResidentTensorsWrap::create(Napi::Env env, const std::shared_ptr<nd::cuda::CudaBackend>& device,
                                        std::shared_ptr<Tensors> tensors) {
  if (!tensors) return env.Null();
  return NativeObject::create(Addon::of(env).resident_tensors,
                              std::make_shared<State>(State{device, std::move(tensors)}));
}

std::shared_ptr<Tensors> ResidentTensorsWrap::from(Napi::Value value, const std::string& name,
                                                   const std::shared_ptr<nd::cuda::CudaBackend>& device) {
  const NativeObject* const object = NativeObject::find(value, kClass);
  if (!object) throw TypeFailure{"Expected ResidentTensors for " + name};
  const auto state = state_of(*object);
  if (state->device != device) throw TypeFailure{"Expected tensors of the model's device for " + name};
  return tensors_of(state);
}

}  // namespace nd_binding
