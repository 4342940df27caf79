#include "cancel_token.h"

#include "failure.h"

namespace nd_binding {
namespace {

constexpr napi_type_tag kTag = {0x6e6f64652d646966, 0x66636e6c746f6b01};

bool is_token(Napi::Value value) {
  return value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kTag);
}

}  // namespace

Napi::Function CancelTokenWrap::define(Napi::Env env) {
  return DefineClass(env, "CancelToken", {InstanceMethod("cancel", &CancelTokenWrap::cancel)});
}

std::shared_ptr<nd::CancelToken> CancelTokenWrap::from(Napi::Value value, const char* name) {
  if (value.IsUndefined() || value.IsNull()) return std::make_shared<nd::CancelToken>();
  if (!is_token(value)) throw TypeFailure{std::string("Expected CancelToken for ") + name};
  return Unwrap(value.As<Napi::Object>())->token_;
}

CancelTokenWrap::CancelTokenWrap(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

// Hides ObjectWrap's Unwrap, which accepts any wrapped object.
CancelTokenWrap* CancelTokenWrap::Unwrap(Napi::Object object) {
  if (!is_token(object)) throw Napi::TypeError::New(object.Env(), "Expected `this` to be a CancelToken");
  return ObjectWrap::Unwrap(object);
}

Napi::Value CancelTokenWrap::cancel(const Napi::CallbackInfo& info) {
  token_->cancel();
  return info.Env().Undefined();
}

}  // namespace nd_binding
