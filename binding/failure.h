// Turns C++ exceptions into JavaScript errors. All exceptions are caught: no failure in the addon may end the
// process.
#pragma once
#include <exception>
#include <string>
#include <utility>

#include "napi_all.h"

namespace nd_binding {

/// An error in a form that can be passed between threads.
struct Failure {
  enum class Kind { none, type, range, coded, cancelled, other };
  Kind kind = Kind::none;
  std::string code;
  std::string message;

  explicit operator bool() const { return kind != Kind::none; }
  /// TypeError, RangeError or Error with `code` (and `cancelled: true`).
  Napi::Error to_js(Napi::Env env) const;
  /// The exception that is being handled.
  static Failure current() noexcept;
};

/// An argument of the wrong type. `guarded` turns it into a TypeError.
struct TypeFailure {
  std::string message;
};

/// Runs the body of a function that JavaScript calls. Every exception becomes a JavaScript exception.
template <class Body>
auto guarded(Napi::Env env, Body&& body) -> decltype(body()) {
  Failure failure;
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;  // an exception of JavaScript, for example from a getter
  } catch (...) {
    failure = Failure::current();
  }
  throw failure.to_js(env);
}

}  // namespace nd_binding
