// What a kernel, the prelude and the substitute headers see of the runtime. No standard header is included here:
// every kernel is compiled behind this file, and the time that takes is the tests' own.
#pragma once

namespace emulator {

// A place in a source file; as a default argument, EMULATOR_HERE is the caller's place.
struct Site {
  const char* file;
  int line;
  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};
#define EMULATOR_HERE ::emulator::Site::here()

struct Index3 {
  unsigned x, y, z;
};

// Where the running CUDA thread is; kept up to date at every switch of threads.
struct View {
  Index3 thread_index, block_index, block_dim, grid_dim;
  unsigned linear;              // number of the thread in its block
  unsigned char* window;        // dynamic shared memory of the block
  unsigned window_bytes;
};
extern View view;

// Ends the launch with a report that names the running thread and the site.
[[noreturn]] __attribute__((format(printf, 2, 3))) void fail(Site site, const char* format, ...);

void barrier(Site site);

// The lanes of `mask` meet; the last one runs `combine` once over what each of them brought.
using Combine = void (*)(void* const* brought, unsigned mask, unsigned lanes_alive);
void warp_rendezvous(const char* what, unsigned mask, void* brought, Combine combine, Site site);

enum class ShuffleMode { index, up, down, butterfly };
unsigned long long shuffle(ShuffleMode mode, unsigned mask, unsigned long long bits, int operand, int width, Site site);
unsigned ballot(unsigned mask, bool predicate, Site site);

// Asynchronous work of no thread's own: at once under eager schedules, else when no thread can run.
void defer(void (*work)(void*), void* argument);

void copy_async(void* shared, const void* global, int bytes, int source_bytes, Site site);
void copy_async_commit();
void copy_async_wait(int newest);

// ldmatrix and mma.sync of whole warps.
enum class Half { f16, bf16 };
void load_matrices(unsigned (&matrices)[4], const void* row, bool transposed, Site site);
void multiply_matrices(Half half, float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, Site site);

enum class Access { global_load, global_store, shared_load, shared_store };
[[noreturn]] void bad_address(Access access, const void* address, unsigned bytes, Site site);
void count(Access access, const void* address, unsigned bytes, Site site);

inline bool is_aligned(const void* address, unsigned bytes) {
  return (reinterpret_cast<unsigned long long>(address) & (bytes - 1)) == 0;
}
inline bool in_window(const void* address, unsigned bytes) {
  unsigned long long at = reinterpret_cast<unsigned long long>(address);
  unsigned long long start = reinterpret_cast<unsigned long long>(view.window);
  return at >= start && at + bytes <= start + view.window_bytes;
}

// Every load and store of the substitute headers passes here first.
inline void touch(Access access, const void* address, unsigned bytes, Site site) {
  bool shared = access == Access::shared_load || access == Access::shared_store;
  if (!is_aligned(address, bytes) || (shared && !in_window(address, bytes)))
    bad_address(access, address, bytes, site);
#ifdef GPUCONV_COUNT
  count(access, address, bytes, site);
#endif
}

}  // namespace emulator
