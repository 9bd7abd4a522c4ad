// Stackful fibers: their stacks, the switch in assembly, and what sanitizers must be told of it.
#include "scheduler.h"

#include <sys/mman.h>

extern "C" {
void emulator_swap(void** save, void* to);
// Present only under a sanitizer.
void __sanitizer_start_switch_fiber(void**, const void*, size_t) __attribute__((weak));
void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) __attribute__((weak));
void __asan_poison_memory_region(const volatile void*, size_t) __attribute__((weak));
void __asan_unpoison_memory_region(const volatile void*, size_t) __attribute__((weak));
void* __tsan_create_fiber(unsigned) __attribute__((weak));
void* __tsan_get_current_fiber() __attribute__((weak));
void __tsan_switch_to_fiber(void*, unsigned) __attribute__((weak));
void __tsan_acquire(void*) __attribute__((weak));
void __tsan_release(void*) __attribute__((weak));
void __tsan_read_range(void*, unsigned long) __attribute__((weak));
void __tsan_write_range(void*, unsigned long) __attribute__((weak));
}

#if defined(__x86_64__)
asm(R"(
.text
.globl emulator_swap
.type emulator_swap,@function
emulator_swap:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rdi
.globl emulator_resume
.type emulator_resume,@function
emulator_resume:
  movq %rdi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.section .note.GNU-stack,"",@progbits
.text
)");
constexpr int saved_words = 7, return_word = 6, slack_words = 1;  // the entry sees the stack as after a call
#elif defined(__aarch64__)
asm(R"(
.text
.globl emulator_swap
.type emulator_swap,%function
emulator_swap:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov x0, x1
.globl emulator_resume
.type emulator_resume,%function
emulator_resume:
  mov sp, x0
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.section .note.GNU-stack,"",%progbits
.text
)");
constexpr int saved_words = 20, return_word = 11, slack_words = 0;
#else
#error "the switch of fibers is written for x86-64 and aarch64"
#endif

namespace emulator {
namespace {

constexpr size_t stack_guard_bytes = 64 * 1024;
Fiber host;
const void* host_stack = nullptr;
size_t host_stack_bytes = 0;

// Sanitizers widen stack frames.
size_t stack_bytes() { return __sanitizer_start_switch_fiber || __tsan_create_fiber ? 512 * 1024 : 128 * 1024; }

void announce(Fiber& from, bool from_ends, const void* stack, size_t bytes, void* tsan_fiber) {
  if (__sanitizer_start_switch_fiber)
    __sanitizer_start_switch_fiber(from_ends ? nullptr : &from.asan_stack, stack, bytes);
  constexpr unsigned no_synchronization = 1;
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(tsan_fiber, no_synchronization);
}

void arrived(Fiber& here) {
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(here.asan_stack, nullptr, nullptr);
}

void (*fiber_entry)() = nullptr;

extern "C" void emulator_fiber_start() {
  if (__sanitizer_finish_switch_fiber) {
    const void* stack = nullptr;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
    if (host_stack == nullptr) {  // the first fiber of a launch comes from the host
      host_stack = stack;
      host_stack_bytes = bytes;
    }
  }
  fiber_entry();
}

}  // namespace

void make_fibers() {
  host_stack = nullptr;
  if (__tsan_get_current_fiber) host.tsan_fiber = __tsan_get_current_fiber();
  if (run.threads != nullptr) return;
  run.threads = new Thread[max_threads];
  size_t bytes = stack_bytes();
  for (int i = 0; i < max_threads; ++i) {
    Thread& thread = run.threads[i];
    void* mapped = mmap(nullptr, stack_guard_bytes + bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mprotect(mapped, stack_guard_bytes, PROT_NONE);
    thread.stack = static_cast<unsigned char*>(mapped) + stack_guard_bytes;
    if (__tsan_create_fiber) thread.tsan_fiber = __tsan_create_fiber(0);
  }
}

void prepare_fiber(Thread& thread, void (*entry)()) {
  fiber_entry = entry;
  void** top = reinterpret_cast<void**>(thread.stack + stack_bytes()) - slack_words - saved_words;
  for (int i = 0; i < saved_words + slack_words; ++i) top[i] = nullptr;
  top[return_word] = reinterpret_cast<void*>(&emulator_fiber_start);
  thread.stack_pointer = top;
  thread.asan_stack = nullptr;
}

void switch_from_host(Thread& to) {
  announce(host, false, to.stack, stack_bytes(), to.tsan_fiber);
  emulator_swap(&host.stack_pointer, to.stack_pointer);
  arrived(host);
}

void switch_between(Thread& from, Thread& to) {
  announce(from, from.state == State::exited, to.stack, stack_bytes(), to.tsan_fiber);
  emulator_swap(&from.stack_pointer, to.stack_pointer);
  arrived(from);
}

void switch_to_host() {
  Thread& from = *run.current;
  announce(from, true, host_stack, host_stack_bytes, host.tsan_fiber);
  emulator_swap(&from.stack_pointer, host.stack_pointer);
  __builtin_unreachable();
}

void* host_stack_pointer() { return host.stack_pointer; }

// A fault resumes the host past the usual switch. One sanitizer is told before the signal handler returns, the other
// after it, which keeps its own books of signals.
void before_resuming_host() {
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(nullptr, host_stack, host_stack_bytes);
}

void after_failure() {
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(host.tsan_fiber, 1);
  for (int i = 0; i < run.thread_count; ++i) unpoison(run.threads[i].stack, stack_bytes());  // frames left behind
}

void happens_before(void* tag) {
  if (__tsan_release) __tsan_release(tag);
}
void happens_after(void* tag) {
  if (__tsan_acquire) __tsan_acquire(tag);
}
void shadow_write(void* address, size_t bytes) {
  if (__tsan_write_range) __tsan_write_range(address, bytes);
}
void shadow_read(const void* address, size_t bytes) {
  if (__tsan_read_range) __tsan_read_range(const_cast<void*>(address), bytes);
}
void poison(const void* address, size_t bytes) {
  if (__asan_poison_memory_region) __asan_poison_memory_region(address, bytes);
}
void unpoison(const void* address, size_t bytes) {
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(address, bytes);
}

}  // namespace emulator
