// What C++ reads of a file or of a configuration, as functions of arbitrary bytes. engine-tests calls them with seeded
// random bytes, and the programs of ND_FUZZ with those that libFuzzer finds. A wrong answer ends the process.
#pragma once
#include <cstddef>
#include <cstdint>

namespace nd::fuzz {

struct Target {
  const char* name;
  void (*run)(const uint8_t* data, size_t size);
};

/// Blocks of every stored type: decoding, encoding what was decoded, the parts of four-bit rows, packing for every
/// kernel table.
void blocks(const uint8_t* data, size_t size);
/// Entries of the table of stored tensors, which may lie about everything, and reads of what it accepts.
void weight_table(const uint8_t* data, size_t size);
/// Configurations of all models: each is refused, or gives a list of tensors.
void configs(const uint8_t* data, size_t size);

constexpr Target kTargets[] = {{"blocks", blocks}, {"weight_table", weight_table}, {"configs", configs}};

}  // namespace nd::fuzz
