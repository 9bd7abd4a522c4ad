// Device memory and the window of shared memory: inaccessible pages on both sides, and marked bytes where an array
// does not fill its pages.
#include "scheduler.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

namespace emulator {
namespace {

constexpr unsigned char unset = 0xff;  // a NaN in every floating type
constexpr size_t guard_bytes = 1 << 20;

size_t page_bytes() {
  static const size_t bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}
size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// Accessible pages between two stretches of inaccessible ones.
unsigned char* map_guarded(size_t bytes) {
  void* mapped = mmap(nullptr, bytes + 2 * guard_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  unsigned char* pages = static_cast<unsigned char*>(mapped) + guard_bytes;
  if (mprotect(pages, bytes, PROT_READ | PROT_WRITE) == 0) return pages;
  munmap(mapped, bytes + 2 * guard_bytes);
  return nullptr;
}

struct Allocation {
  unsigned char* pages;
  size_t page_total;
  size_t bytes;
};
std::map<unsigned char*, Allocation> allocations;  // by first byte
std::mutex allocations_lock;                       // arrays are made and freed while another thread launches

// First byte in [from, to) that is not `unset`.
const unsigned char* changed(const unsigned char* from, const unsigned char* to) {
  for (; from < to; ++from)
    if (*from != unset) return from;
  return nullptr;
}

bool canary_failure(const unsigned char* at, const char* text) {
  run.report.failure = Failure::canary;
  run.report.address = reinterpret_cast<uint64_t>(at);
  run.report.has_thread = 0;
  std::snprintf(run.report.text, sizeof run.report.text, "%s", text);
  return false;
}

unsigned char* window_pages = nullptr;
const size_t window_page_total = round_up(window_limit, 65536);
size_t window_open = 0;  // bytes at the end of the pages that are accessible

unsigned char* window_page_end() { return window_pages + window_page_total; }

}  // namespace

// The start lies `past` bytes past a multiple of `boundary`: the last such place, or with at_start the first. A
// boundary of 0 takes the very end.
extern "C" void* emulator_allocate(size_t bytes, unsigned boundary, unsigned past, int at_start) {
  size_t total = round_up(bytes + boundary + past + 1, page_bytes());
  unsigned char* pages = map_guarded(total);
  if (pages == nullptr) return nullptr;
  std::memset(pages, unset, total);
  unsigned char* start = pages;
  if (at_start) {
    start += past;
  } else {
    start = pages + total - bytes;
    if (boundary > 0) start -= (reinterpret_cast<uintptr_t>(start) - past) % boundary;
  }
  poison(pages, static_cast<size_t>(start - pages));
  poison(start + bytes, static_cast<size_t>(pages + total - start) - bytes);
  std::lock_guard<std::mutex> lock(allocations_lock);
  allocations[start] = {pages, total, bytes};
  return start;
}

extern "C" void emulator_free(void* start) {
  std::lock_guard<std::mutex> lock(allocations_lock);
  auto found = allocations.find(static_cast<unsigned char*>(start));
  if (found == allocations.end()) return;
  unpoison(found->second.pages, found->second.page_total);
  munmap(found->second.pages - guard_bytes, found->second.page_total + 2 * guard_bytes);
  allocations.erase(found);
}

bool check_allocations() {
  std::lock_guard<std::mutex> lock(allocations_lock);
  for (const auto& [start, allocation] : allocations) {
    const unsigned char* end = allocation.pages + allocation.page_total;
    const unsigned char* at = changed(allocation.pages, start);
    if (at == nullptr) at = changed(start + allocation.bytes, end);
    if (at != nullptr) return canary_failure(at, "a thread wrote");
  }
  return true;
}

void open_window(unsigned bytes) {
  if (window_pages == nullptr) {
    window_pages = map_guarded(window_page_total);
    window_open = window_page_total;
  }
  unpoison(window_pages, window_page_total);
  size_t needed = round_up(round_up(bytes, 16), page_bytes());
  if (needed != window_open) {
    mprotect(window_pages, window_page_total - needed, PROT_NONE);
    mprotect(window_page_end() - needed, needed, PROT_READ | PROT_WRITE);
    window_open = needed;
  }
  view.window = window_page_end() - round_up(bytes, 16);
  view.window_bytes = bytes;
}

void fill_window() {
  unsigned char* first = window_page_end() - window_open;
  unpoison(first, window_open);
  std::memset(first, unset, window_open);
  shadow_write(view.window, view.window_bytes);
  poison(first, static_cast<size_t>(view.window - first));
  poison(view.window + view.window_bytes,
         static_cast<size_t>(window_page_end() - view.window) - view.window_bytes);
}

bool check_window() {
  const unsigned char* first = window_page_end() - window_open;
  const unsigned char* end = view.window + view.window_bytes;
  char text[160];
  if (const unsigned char* at = changed(first, view.window)) {
    std::snprintf(text, sizeof text, "a thread wrote %ld bytes before the %u bytes of shared memory",
                  static_cast<long>(view.window - at), view.window_bytes);
    return canary_failure(at, text);
  }
  if (const unsigned char* at = changed(end, window_page_end())) {
    std::snprintf(text, sizeof text, "a thread wrote %ld bytes behind the end of the %u bytes of shared memory",
                  static_cast<long>(at - end), view.window_bytes);
    return canary_failure(at, text);
  }
  return true;
}

void bad_address(Access access, const void* address, unsigned bytes, Site site) {
  static const char* const names[] = {"global load", "global store", "shared load", "shared store"};
  const char* name = names[static_cast<int>(access)];
  if (!is_aligned(address, bytes))
    fail(site, "misaligned address: %s of %u bytes, %u past a multiple", name, bytes,
         static_cast<unsigned>(reinterpret_cast<uintptr_t>(address) % bytes));
  long offset = static_cast<long>(static_cast<const unsigned char*>(address) - view.window);
  fail(site, "%s of %u bytes at byte %ld of %u bytes of shared memory", name, bytes, offset, view.window_bytes);
}

}  // namespace emulator
