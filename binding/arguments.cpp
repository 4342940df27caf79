#include "arguments.h"

#include <cmath>
#include <optional>

#include "core/error.h"
#include "failure.h"
#include "engine_limits.h"

namespace nd_binding {
namespace {

const char* type_name(Napi::Value value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return "boolean";
    case napi_number:
      return "number";
    case napi_string:
      return "string";
    case napi_symbol:
      return "symbol";
    case napi_function:
      return "function";
    case napi_bigint:
      return "bigint";
    default:
      return "object";
  }
}

std::string received(Napi::Value value) {
  std::string text = " but received ";
  if (value.IsNumber() || value.IsBoolean()) text += value.ToString().Utf8Value() + " of type ";
  return text + type_name(value);
}

[[noreturn]] void wrong_type(const char* expected, const std::string& name, Napi::Value value) {
  throw TypeFailure{std::string("Expected ") + expected + " for " + name + received(value)};
}

[[noreturn]] void out_of_range(const std::string& message) {
  throw nd::Error(nd::ErrorCode::invalid_argument, message);
}

/// A typed array of `length`, or of any where none is given.
template <class Element>
std::vector<Element> copy(Napi::Value value, napi_typedarray_type type, const char* type_text,
                          const std::string& name, std::optional<int64_t> length = {}) {
  if (!value.IsTypedArray()) wrong_type(type_text, name, value);
  // The length comes from here and not from the TypedArray object, because the array may be detached.
  napi_typedarray_type actual_type;
  size_t actual = 0;
  void* data = nullptr;
  const napi_status status =
      napi_get_typedarray_info(value.Env(), value, &actual_type, &actual, &data, nullptr, nullptr);
  if (status != napi_ok || actual_type != type) wrong_type(type_text, name, value);
  if (length && (*length < 0 || static_cast<uint64_t>(*length) != actual)) {
    out_of_range("Expected " + std::to_string(*length) + " elements in " + name + " but received " +
                 std::to_string(actual));
  }
  const Element* begin = static_cast<const Element*>(data);
  return actual == 0 ? std::vector<Element>() : std::vector<Element>(begin, begin + actual);
}

}  // namespace

int64_t to_integer(Napi::Value value, const std::string& name, int64_t min, int64_t max) {
  if (!value.IsNumber()) wrong_type("integer", name, value);
  const double number = value.As<Napi::Number>().DoubleValue();
  // NaN fails every comparison, so it is also rejected.
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) ||
      number != std::floor(number)) {
    out_of_range("Expected integer between " + std::to_string(min) + " and " + std::to_string(max) + " for " +
                 name + received(value));
  }
  return static_cast<int64_t>(number);
}

uint64_t to_unsigned64(Napi::Value value, const std::string& name) {
  if (!value.IsBigInt()) wrong_type("bigint", name, value);
  bool lossless = false;
  return value.As<Napi::BigInt>().Uint64Value(&lossless);
}

double to_number(Napi::Value value, const std::string& name) {
  if (!value.IsNumber()) wrong_type("number", name, value);
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!std::isfinite(number)) out_of_range("Expected finite number for " + name + received(value));
  return number;
}

bool to_boolean(Napi::Value value, const std::string& name) {
  if (!value.IsBoolean()) wrong_type("boolean", name, value);
  return value.As<Napi::Boolean>().Value();
}

std::string to_string(Napi::Value value, const std::string& name) {
  if (!value.IsString()) wrong_type("string", name, value);
  return value.As<Napi::String>().Utf8Value();
}

Napi::Object to_object(Napi::Value value, const std::string& name) {
  if (!value.IsObject()) wrong_type("object", name, value);
  return value.As<Napi::Object>();
}

Napi::Array to_array(Napi::Value value, const std::string& name) {
  if (!value.IsArray()) wrong_type("array", name, value);
  return value.As<Napi::Array>();
}

std::vector<float> to_floats(Napi::Value value, const std::string& name, int64_t length) {
  return copy<float>(value, napi_float32_array, "Float32Array", name, length);
}

std::vector<int32_t> to_ints(Napi::Value value, const std::string& name, int64_t length) {
  return copy<int32_t>(value, napi_int32_array, "Int32Array", name, length);
}

std::vector<double> to_doubles(Napi::Value value, const std::string& name) {
  return copy<double>(value, napi_float64_array, "Float64Array", name);
}

std::vector<char> to_bytes(Napi::Value value, const std::string& name) {
  return copy<char>(value, napi_uint8_array, "Uint8Array", name);
}

int64_t batch_pixels(int64_t n, int64_t h, int64_t w) {
  if (h > Limits::pixels / w || h * w > Limits::pixels / n) {
    out_of_range("Expected at most " + std::to_string(Limits::pixels) + " pixels but received " +
                 std::to_string(n) + " images of " + std::to_string(h) + "x" + std::to_string(w));
  }
  return n * h * w;
}

std::vector<int64_t> to_integers(Napi::Value value, const std::string& name, int64_t min, int64_t max,
                                 int64_t max_length) {
  const Napi::Array array = to_array(value, name);
  if (array.Length() > max_length) {
    out_of_range("Expected at most " + std::to_string(max_length) + " elements in " + name +
                 " but received " + std::to_string(array.Length()));
  }
  std::vector<int64_t> values;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    values.push_back(to_integer(array.Get(i), name + "[" + std::to_string(i) + "]", min, max));
  }
  return values;
}

}  // namespace nd_binding
