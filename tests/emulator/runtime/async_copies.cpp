// cp.async: copies of a thread's own, in groups that its later waits name.
#include "scheduler.h"

#include <cstring>
#include <deque>
#include <vector>

namespace emulator {
namespace {

struct Copy {
  void* shared;
  const void* global;
  int bytes, source_bytes;
  Site site;
};

struct Queue {
  std::vector<Copy> open;                 // issued, in no group yet
  std::deque<std::vector<Copy>> groups;  // oldest first
} queues[max_threads];

Queue& own() { return queues[run.current->linear]; }

void land(const Copy& copy) {
  run.current->site = copy.site;  // a fault here is the copy's
  shadow_write(copy.shared, static_cast<size_t>(copy.bytes));
  unsigned char bytes[16] = {};
  if (copy.source_bytes > 0) {
    shadow_read(copy.global, static_cast<size_t>(copy.source_bytes));
    std::memcpy(bytes, copy.global, static_cast<size_t>(copy.source_bytes));
  }
  std::memcpy(copy.shared, bytes, static_cast<size_t>(copy.bytes));
  run.current->site = {"", 0};
}

void land_all(std::vector<Copy>& copies) {
  for (const Copy& copy : copies) land(copy);
  copies.clear();
}

void block_begins() {
  for (int i = 0; i < run.thread_count; ++i) {
    queues[i].open.clear();
    queues[i].groups.clear();
  }
}

void thread_exits(Thread&) {
  Queue& queue = own();
  for (std::vector<Copy>& group : queue.groups) land_all(group);
  land_all(queue.open);
  queue.groups.clear();
}

Module module(block_begins, thread_exits);

}  // namespace

void copy_async(void* shared, const void* global, int bytes, int source_bytes, Site site) {
  unsigned size = static_cast<unsigned>(bytes);
  if (!in_window(shared, size) || !is_aligned(shared, size)) bad_address(Access::shared_store, shared, size, site);
  if (source_bytes < 0 || source_bytes > bytes)
    fail(site, "cp.async of %d bytes takes 0 to %d from its source, not %d", bytes, bytes, source_bytes);
  if (!is_aligned(global, size)) bad_address(Access::global_load, global, size, site);
  Copy copy{shared, global, bytes, source_bytes, site};
  if (run.schedule.lazy) own().open.push_back(copy);
  else land(copy);
}

void copy_async_commit() {
  Queue& queue = own();
  queue.groups.push_back(std::move(queue.open));
  queue.open.clear();
}

void copy_async_wait(int newest) {
  Queue& queue = own();
  while (queue.groups.size() > static_cast<size_t>(newest)) {
    land_all(queue.groups.front());
    queue.groups.pop_front();
  }
}

}  // namespace emulator
