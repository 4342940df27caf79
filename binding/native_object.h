// The one C++ class behind all JavaScript classes of the addon. An object has a share of something in the
// engine, and its class is a table of members. A class of its own for each would repeat the same machine code
// a dozen times.
#pragma once
#include <cstddef>
#include <memory>
#include <vector>

#include "napi_all.h"

namespace nd_binding {

class NativeObject;

/// A method or a getter. Whatever it throws becomes a JavaScript exception.
struct NativeMember {
  enum class Kind { method, getter };
  Kind kind;
  const char* name;
  Napi::Value (*call)(NativeObject& self, const Napi::CallbackInfo& info);
};

/// Members in static storage.
struct NativeMembers {
  const NativeMember* first = nullptr;
  size_t count = 0;

  NativeMembers() = default;
  template <size_t Count>
  // NOLINTNEXTLINE(google-explicit-constructor): an array of members is what this refers to
  constexpr NativeMembers(const NativeMember (&members)[Count]) : first(members), count(Count) {}
};

/// A class of JavaScript, in static storage.
struct NativeClass {
  const char* name = nullptr;
  /// What a new object has a share of; null if only the addon creates objects.
  std::shared_ptr<void> (*create)() = nullptr;
  /// Whether freeing the content takes so long that another thread does it.
  bool large = false;
  /// The size of the content, for the garbage collector; null: it is as small as the object.
  size_t (*bytes)(const void* content) = nullptr;
  NativeMembers members[3];
};

class NativeObject : public Napi::ObjectWrap<NativeObject> {
 public:
  static Napi::Function define(Napi::Env env, const NativeClass& type);
  /// An object of the class of `constructor`, which scripts may not construct.
  static Napi::Object create(const Napi::FunctionReference& constructor, std::shared_ptr<void> content);
  /// The object that a value is; null if it is not of this class.
  static NativeObject* find(Napi::Value value, const NativeClass& type);

  explicit NativeObject(const Napi::CallbackInfo& info);
  /// What JavaScript calls for `new`. It hides ObjectWrap's, which lets std::bad_alloc through to C code.
  static napi_value ConstructorCallbackWrapper(napi_env env, napi_callback_info info);
  /// Hides ObjectWrap's Unwrap, which accepts any wrapped object.
  static NativeObject* Unwrap(Napi::Object object);
  void Finalize(Napi::BasicEnv env) override;

  const NativeClass& type() const { return *type_; }
  /// Null after dispose().
  const std::shared_ptr<void>& content() const { return content_; }
  /// Gives up the share of the content; a running call keeps its own. Large contents are freed on another
  /// thread: a promise that they are. Undefined: they are freed already.
  Napi::Value dispose(Napi::Env env, std::shared_ptr<void> next = nullptr);

 private:
  Napi::Value invoke(const Napi::CallbackInfo& info);
  /// Returns what it had a share of.
  std::shared_ptr<void> exchange(Napi::BasicEnv env, std::shared_ptr<void> next);
  /// Tells the garbage collector the size of what is behind this small object.
  void account(Napi::BasicEnv env, int64_t sign);

  const NativeClass* type_;
  std::shared_ptr<void> content_;
};

}  // namespace nd_binding
