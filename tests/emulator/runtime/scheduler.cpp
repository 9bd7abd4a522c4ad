// Who runs: the lowest (or, in reverse, the highest) numbered thread that can; reports of threads that never will.
#include "scheduler.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>

namespace emulator {

View view;
Run run;

namespace {

Module* modules = nullptr;
struct Deferred {
  void (*work)(void*);
  void* argument;
};
std::deque<Deferred> deferred;
char block_begin_edge, block_end_edge;  // earlier blocks happened before, threads of one block do not

const char* base_name(const char* path) {
  const char* slash = std::strrchr(path, '/');
  return slash == nullptr ? path : slash + 1;
}

std::string deadlock_text() {
  std::map<std::string, ThreadSet> groups;
  for (int i = 0; i < run.thread_count; ++i) {
    const Thread& thread = run.threads[i];
    if (thread.state != State::waiting) continue;
    std::string where = std::string(thread.waits_for) + " at " + base_name(thread.site.file) + ":" +
                        std::to_string(thread.site.line);
    groups[where].add(thread.linear);
  }
  std::string text = "no thread can run:";
  for (const auto& [where, threads] : groups) {
    text += "\n  " + positions(threads) + (threads.size() == 1 ? " waits in " : " wait in ") + where;
  }
  if (run.exited.size() > 0) text += "\n  " + positions(run.exited) + " exited";
  return text;
}

void make_current(Thread& thread) {
  run.current = &thread;
  view.thread_index = thread.index;
  view.linear = thread.linear;
}

void run_deferred() {
  Deferred next = deferred.front();
  deferred.pop_front();
  next.work(next.argument);
}

Thread& pick() {
  for (;;) {
    int chosen = run.schedule.reverse ? run.ready.last() : run.ready.first();
    if (chosen >= 0) {
      run.ready.remove(static_cast<unsigned>(chosen));
      return run.threads[chosen];
    }
    if (deferred.empty()) fail_block(deadlock_text().c_str());
    run_deferred();
  }
}

void run_next() {
  Thread& from = *run.current;
  Thread& to = pick();
  if (&to == &from) return;
  make_current(to);
  switch_between(from, to);
}

void thread_entry() {
  happens_after(&block_begin_edge);
  run.call(run.packed);
  Thread& self = *run.current;
  for (Module* module = modules; module != nullptr; module = module->next)
    if (module->thread_exits != nullptr) module->thread_exits(self);
  happens_before(&block_end_edge);
  self.state = State::exited;
  run.exited.add(self.linear);
  if (--run.live > 0) run_next();
  while (!deferred.empty()) run_deferred();
  switch_to_host();
}

void begin_block(Index3 block_index) {
  view.block_index = block_index;
  run.ready.clear();
  run.exited.clear();
  deferred.clear();
  run.live = run.thread_count;
  for (int i = 0; i < run.thread_count; ++i) {
    Thread& thread = run.threads[i];
    unsigned number = static_cast<unsigned>(i), columns = view.block_dim.x, rows = view.block_dim.y;
    thread.linear = number;
    thread.warp = number / warp_lanes;
    thread.lane = number % warp_lanes;
    thread.index = {number % columns, number / columns % rows, number / columns / rows};
    thread.state = State::ready;
    thread.site = {"", 0};
    prepare_fiber(thread, thread_entry);
    run.ready.add(number);
  }
  for (Module* module = modules; module != nullptr; module = module->next)
    if (module->block_begins != nullptr) module->block_begins();
}

void fill_report(const char* text) {
  Report& report = run.report;
  report.failure = Failure::check;
  report.block[0] = view.block_index.x;
  report.block[1] = view.block_index.y;
  report.block[2] = view.block_index.z;
  std::snprintf(report.text, sizeof report.text, "%s", text);
}

}  // namespace

Module::Module(void (*begins)(), void (*exits)(Thread&)) : block_begins(begins), thread_exits(exits), next(modules) {
  modules = this;
}

int ThreadSet::size() const {
  int count = 0;
  for (uint64_t word : words_) count += __builtin_popcountll(word);
  return count;
}

int ThreadSet::first() const {
  for (int i = 0; i < word_count; ++i)
    if (words_[i] != 0) return i * 64 + __builtin_ctzll(words_[i]);
  return -1;
}

int ThreadSet::last() const {
  for (int i = word_count - 1; i >= 0; --i)
    if (words_[i] != 0) return i * 64 + 63 - __builtin_clzll(words_[i]);
  return -1;
}

std::string ThreadSet::examples() const {
  std::string text;
  int shown = 0;
  for (unsigned i = 0; i < max_threads; ++i) {
    if (!has(i)) continue;
    if (shown == 4) return text + ", ...";
    text += (shown++ == 0 ? "" : ", ") + std::to_string(i);
  }
  return text;
}

std::string positions(const ThreadSet& threads) {
  int count = threads.size();
  if (count == 1) return "thread " + threads.examples();
  return std::to_string(count) + " threads (" + threads.examples() + ")";
}

void block_on(const char* what, Site site) {
  Thread& self = *run.current;
  self.state = State::waiting;
  self.waits_for = what;
  self.site = site;
  run_next();
}

void wake(Thread& thread) {
  thread.state = State::ready;
  run.ready.add(thread.linear);
}

void wake_all(const ThreadSet& threads) {
  for (int i = 0; i < run.thread_count; ++i)
    if (threads.has(static_cast<unsigned>(i))) run.threads[i].state = State::ready;
  run.ready.add_all(threads);
}

void requeue() {
  wake(*run.current);
  run_next();
}

void defer(void (*work)(void*), void* argument) {
  if (run.schedule.lazy) deferred.push_back({work, argument});
  else work(argument);
}

void fail_block(const char* text) {
  fill_report(text);
  run.report.has_thread = 0;
  switch_to_host();
}

void fail(Site site, const char* format, ...) {
  char text[4096];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  fill_report(text);
  Report& report = run.report;
  report.has_thread = 1;
  report.thread[0] = view.thread_index.x;
  report.thread[1] = view.thread_index.y;
  report.thread[2] = view.thread_index.z;
  report.file = site.file;
  report.line = site.line;
  switch_to_host();
}

bool run_block(Index3 block_index) {
  fill_window();
  begin_block(block_index);
  happens_before(&block_begin_edge);
  Thread& first = pick();
  make_current(first);
  switch_from_host(first);
  bool finished = run.report.failure == Failure::none;
  if (!finished) after_failure();
  happens_after(&block_end_edge);
  run.current = nullptr;
  return finished && check_window();
}

}  // namespace emulator
