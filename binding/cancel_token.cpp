#include "cancel_token.h"

#include <string>

#include "failure.h"
#include "native_object.h"

namespace nd_binding {
namespace {

std::shared_ptr<void> create() {
  return std::make_shared<nd::CancelToken>();
}

Napi::Value cancel(NativeObject& self, const Napi::CallbackInfo& info) {
  static_cast<nd::CancelToken*>(self.content().get())->cancel();
  return info.Env().Undefined();
}

constexpr NativeMember kMembers[] = {{NativeMember::Kind::method, "cancel", cancel}};
constexpr NativeClass kClass = {"CancelToken", create, false, nullptr, {kMembers}};

}  // namespace

Napi::Function CancelTokenWrap::define(Napi::Env env) {
  return NativeObject::define(env, kClass);
}

std::shared_ptr<nd::CancelToken> CancelTokenWrap::from(Napi::Value value, const char* name) {
  if (value.IsUndefined() || value.IsNull()) return std::make_shared<nd::CancelToken>();
  const NativeObject* const object = NativeObject::find(value, kClass);
  if (!object) throw TypeFailure{std::string("Expected CancelToken for ") + name};
  return std::static_pointer_cast<nd::CancelToken>(object->content());
}

}  // namespace nd_binding
