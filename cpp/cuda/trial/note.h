// What trials say in their notes for people.
#pragma once
#include <string>

namespace nd::cuda {

/// What an error says, without the advice that follows.
inline std::string first_sentence(const std::string& message) {
  return message.substr(0, message.find(". "));
}

}  // namespace nd::cuda
