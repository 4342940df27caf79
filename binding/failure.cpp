#include "failure.h"

#include <new>
#include <stdexcept>

#include "core/cancel.h"
#include "core/error.h"

namespace nd_binding {
namespace {

const char* code_name(nd::ErrorCode code) {
  switch (code) {
    case nd::ErrorCode::model_format:
      return "MODEL_FORMAT";
    case nd::ErrorCode::model_shape:
      return "MODEL_SHAPE";
    case nd::ErrorCode::unsupported_model:
      return "UNSUPPORTED_MODEL";
    case nd::ErrorCode::out_of_memory:
      return "OUT_OF_MEMORY";
    case nd::ErrorCode::disposed:
      return "DISPOSED";
    case nd::ErrorCode::io:
      return "IO";
    case nd::ErrorCode::device_unavailable:
      return "DEVICE_UNAVAILABLE";
    case nd::ErrorCode::device_lost:
      return "DEVICE_LOST";
    case nd::ErrorCode::invalid_argument:
      break;
  }
  return "";
}

Failure describe() {
  using Kind = Failure::Kind;
  try {
    throw;
  } catch (const nd::Cancelled&) {
    return {Kind::cancelled, "CANCELLED", "The call was cancelled"};
  } catch (const TypeFailure& error) {
    return {Kind::type, "", error.message};
  } catch (const nd::Error& error) {
    if (error.code() == nd::ErrorCode::invalid_argument) return {Kind::range, "", error.what()};
    return {Kind::coded, code_name(error.code()), error.what()};
  } catch (const std::bad_alloc&) {
    return {Kind::coded, "OUT_OF_MEMORY", "Not enough memory"};
  } catch (const std::length_error&) {  // a container that is larger than any memory
    return {Kind::coded, "OUT_OF_MEMORY", "Not enough memory"};
  } catch (const std::exception& error) {
    return {Kind::other, "", error.what()};
  } catch (...) {
    return {Kind::other, "", "Unknown error in the native engine"};
  }
}

}  // namespace

Failure Failure::current() noexcept {
  try {
    return describe();
  } catch (...) {  // there is no memory for the message; short strings need none
    Failure failure;
    failure.kind = Kind::coded;
    failure.code = "OUT_OF_MEMORY";
    failure.message = "Out of memory";
    return failure;
  }
}

Napi::Error Failure::to_js(Napi::Env env) const {
  if (kind == Kind::type) return Napi::TypeError::New(env, message);
  if (kind == Kind::range) return Napi::RangeError::New(env, message);
  Napi::Error error = Napi::Error::New(env, message);
  if (!code.empty()) error.Set("code", Napi::String::New(env, code));
  if (kind == Kind::cancelled) error.Set("cancelled", Napi::Boolean::New(env, true));
  return error;
}

}  // namespace nd_binding
