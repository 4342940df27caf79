#include "native_object.h"

#include <string>
#include <utility>

#include "failure.h"
#include "free_elsewhere.h"
#include "job.h"

namespace nd_binding {
namespace {

constexpr napi_type_tag kTag = {0x6e6f64652d646966, 0x666f626a65637401};

bool is_native(Napi::Value value) {
  return value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kTag);
}

bool has_member(const NativeClass& type, const NativeMember* member) {
  for (const NativeMembers& members : type.members)
    for (size_t i = 0; i < members.count; ++i)
      if (members.first + i == member) return true;
  return false;
}

}  // namespace

Napi::Function NativeObject::define(Napi::Env env, const NativeClass& type) {
  std::vector<PropertyDescriptor> properties;
  for (const NativeMembers& members : type.members) {
    for (size_t i = 0; i < members.count; ++i) {
      const NativeMember& member = members.first[i];
      void* const data = const_cast<NativeMember*>(&member);
      properties.push_back(
          member.kind == NativeMember::Kind::method
              ? InstanceMethod(member.name, &NativeObject::invoke, napi_default, data)
              : InstanceAccessor(member.name, &NativeObject::invoke, nullptr, napi_default, data));
    }
  }
  return DefineClass(env, type.name, properties, const_cast<NativeClass*>(&type));
}

Napi::Object NativeObject::create(const Napi::FunctionReference& constructor, std::shared_ptr<void> content) {
  return constructor.New({Napi::External<std::shared_ptr<void>>::New(constructor.Env(), &content)});
}

NativeObject* NativeObject::find(Napi::Value value, const NativeClass& type) {
  if (!is_native(value)) return nullptr;
  NativeObject* const object = ObjectWrap::Unwrap(value.As<Napi::Object>());
  return object->type_ == &type ? object : nullptr;
}

// JavaScript cannot create the External that create() passes.
NativeObject::NativeObject(const Napi::CallbackInfo& info)
    : ObjectWrap(info), type_(static_cast<const NativeClass*>(info.Data())) {
  if (type_->create) {
    content_ = guarded(info.Env(), [&] { return type_->create(); });
  } else if (info.Length() == 1 && info[0].IsExternal()) {
    content_ = *info[0].As<Napi::External<std::shared_ptr<void>>>().Data();
  } else {
    throw Napi::TypeError::New(info.Env(), std::string(type_->name) + " cannot be constructed");
  }
  info.This().As<Napi::Object>().TypeTag(&kTag);
  account(info.Env(), +1);
}

napi_value NativeObject::ConstructorCallbackWrapper(napi_env env, napi_callback_info info) {
  return Napi::details::WrapCallback(env, [&] {
    return guarded(Napi::Env(env), [&]() -> napi_value {
      const Napi::CallbackInfo call(env, info);
      if (!call.IsConstructCall()) return OnCalledAsFunction(call);
      // The JavaScript object owns it from here on. ObjectWrap's flag for a failed construction stays set,
      // which matters only if an object is deleted before it is finalized.
      new NativeObject(call);
      return call.This();
    });
  });
}

NativeObject* NativeObject::Unwrap(Napi::Object object) {
  if (!is_native(object))
    throw Napi::TypeError::New(object.Env(), "Expected `this` to be an object of node-diffusion");
  return ObjectWrap::Unwrap(object);
}

void NativeObject::Finalize(Napi::BasicEnv env) {
  std::shared_ptr<void> content = exchange(env, nullptr);
  if (type_->large) free_elsewhere(std::move(content));
}

Napi::Value NativeObject::dispose(Napi::Env env, std::shared_ptr<void> next) {
  std::shared_ptr<void> content = exchange(env, std::move(next));
  if (!content || !type_->large) return env.Undefined();
  try {
    return run_async(
        env, std::make_shared<nd::CancelToken>(),
        [content = std::move(content)](const nd::CancelToken&) mutable { content.reset(); },
        [](Napi::Env env) { return env.Undefined(); });
  } catch (...) {
    // There is no thread or no memory for that, so it is freed here.
    return env.Undefined();
  }
}

std::shared_ptr<void> NativeObject::exchange(Napi::BasicEnv env, std::shared_ptr<void> next) {
  account(env, -1);
  std::shared_ptr<void> content = std::exchange(content_, std::move(next));
  account(env, +1);
  return content;
}

void NativeObject::account(Napi::BasicEnv env, int64_t sign) {
  if (!content_ || !type_->bytes) return;
  const auto bytes = static_cast<int64_t>(type_->bytes(content_.get()));
  if (bytes > 0) Napi::MemoryManagement::AdjustExternalMemory(env, sign * bytes);
}

Napi::Value NativeObject::invoke(const Napi::CallbackInfo& info) {
  const auto* const member = static_cast<const NativeMember*>(info.Data());
  return guarded(info.Env(), [&] {
    if (!has_member(*type_, member))
      throw TypeFailure{std::string("Expected `this` to have ") + member->name + ", but it is a " +
                        type_->name};
    return member->call(*this, info);
  });
}

}  // namespace nd_binding
