// C++ exceptions as JavaScript errors. Everything is caught: nothing that happens in here may end the host's
// process.
#pragma once
#include <exception>
#include <string>
#include <utility>

#include "napi_all.h"

namespace nd_binding {

/// What went wrong, in a form that can cross threads.
struct Failure {
  enum class Kind { none, type, range, coded, cancelled, other };
  Kind kind = Kind::none;
  std::string code;
  std::string message;

  explicit operator bool() const { return kind != Kind::none; }
  /// TypeError, RangeError or Error with `code` (and `cancelled: true`).
  Napi::Error to_js(Napi::Env env) const;
  /// Describes the exception that is being handled.
  static Failure current() noexcept;
};

/// A wrong argument type. Caught by `guarded`.
struct TypeFailure {
  std::string message;
};

/// Runs the body of a function that JavaScript calls: whatever it throws becomes a JavaScript exception.
template <class Body>
auto guarded(Napi::Env env, Body&& body) -> decltype(body()) {
  Failure failure;
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;  // JavaScript's own exception, from a getter for example
  } catch (...) {
    failure = Failure::current();
  }
  throw failure.to_js(env);
}

}  // namespace nd_binding
