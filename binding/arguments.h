// Reads arguments from JavaScript. Types are checked (TypeError), numbers are bounded (RangeError), and
// arrays are copied, so that JavaScript cannot change or detach them while a worker thread reads them.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

#include "napi_all.h"

namespace nd_binding {

/// Error messages: `Expected integer between 1 and 1000 for steps but received 0 of type number`.
int64_t to_integer(Napi::Value value, const std::string& name, int64_t min, int64_t max);
/// The low 64 bits of a bigint.
uint64_t to_unsigned64(Napi::Value value, const std::string& name);
double to_number(Napi::Value value, const std::string& name);
bool to_boolean(Napi::Value value, const std::string& name);
std::string to_string(Napi::Value value, const std::string& name);
Napi::Object to_object(Napi::Value value, const std::string& name);
Napi::Array to_array(Napi::Value value, const std::string& name);

/// A list of at most `max_length` integers.
std::vector<int64_t> to_integers(Napi::Value value, const std::string& name, int64_t min, int64_t max,
                                 int64_t max_length);

/// Copies of typed arrays. RangeError unless they have `length` elements.
std::vector<float> to_floats(Napi::Value value, const std::string& name, int64_t length);
std::vector<int32_t> to_ints(Napi::Value value, const std::string& name, int64_t length);
/// A copy of a Uint8Array of any length.
/// Of any length.
std::vector<double> to_doubles(Napi::Value value, const std::string& name);
std::vector<char> to_bytes(Napi::Value value, const std::string& name);

/// Number of pixels of a batch of images. RangeError above Limits::pixels.
int64_t batch_pixels(int64_t n, int64_t h, int64_t w);

/// The fields of an object. Error messages have their path.
class Fields {
 public:
  Fields(Napi::Value value, std::string path) : object_(to_object(value, path)), path_(std::move(path)) {}

  bool has(const char* key) const { return !object_.Get(key).IsUndefined() && !object_.Get(key).IsNull(); }
  Napi::Value get(const char* key) const { return object_.Get(key); }
  std::string name(const char* key) const { return path_ + "." + key; }

  int64_t integer(const char* key, int64_t min, int64_t max) const {
    return to_integer(get(key), name(key), min, max);
  }
  uint64_t unsigned64(const char* key) const { return to_unsigned64(get(key), name(key)); }
  double number(const char* key) const { return to_number(get(key), name(key)); }
  bool boolean(const char* key) const { return to_boolean(get(key), name(key)); }
  std::string string(const char* key) const { return to_string(get(key), name(key)); }
  std::vector<float> floats(const char* key, int64_t length) const {
    return to_floats(get(key), name(key), length);
  }
  std::vector<int32_t> ints(const char* key, int64_t length) const {
    return to_ints(get(key), name(key), length);
  }
  std::vector<int64_t> integers(const char* key, int64_t min, int64_t max, int64_t max_length) const {
    return to_integers(get(key), name(key), min, max, max_length);
  }

 private:
  Napi::Object object_;
  std::string path_;
};

}  // namespace nd_binding
