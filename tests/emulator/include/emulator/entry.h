// Included after a kernel: makes one entry callable through a pointer to its packed parameters.
#pragma once

namespace emulator {

struct Entry {
  void (*call)(const void* packed);  // null where the source has no such entry
  unsigned param_bytes;
};

template <auto Kernel>
struct EntryOf;

template <class Params, void (*Kernel)(Params)>
struct EntryOf<Kernel> {
  static void call(const void* packed) { Kernel(*static_cast<const Params*>(packed)); }
  static constexpr Entry entry{call, sizeof(Params)};
};

template <>
struct EntryOf<nullptr> {
  static constexpr Entry entry{nullptr, 0};
};

}  // namespace emulator

// A qualified name is looked up in the namespaces that using-directives name only where the namespace itself does
// not declare it: a kernel at global scope is found first, then one in gpuconv, then the null pointer.
#define EMULATOR_ENTRY(name)                                 \
  namespace emulator_fallback {                              \
  constexpr decltype(nullptr) name = nullptr;                \
  }                                                          \
  namespace gpuconv {                                        \
  using namespace emulator_fallback;                         \
  }                                                          \
  using namespace gpuconv;                                   \
  extern "C" __attribute__((visibility("default"))) const ::emulator::Entry* emulator_entry() { \
    return &::emulator::EntryOf<::name>::entry;              \
  }
