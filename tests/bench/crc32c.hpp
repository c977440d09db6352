// The checksum that Cloud Storage tells of what it was sent, by the processor where it can.
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t crc32c(uint32_t from, const char* data, size_t size) {
  uint64_t state = from ^ 0xffffffffu;
  for (; size >= 8; data += 8, size -= 8) {
    uint64_t word;
    memcpy(&word, data, 8);
    state = _mm_crc32_u64(state, word);
  }
  for (; size; data++, size--) state = _mm_crc32_u8(uint32_t(state), uint8_t(*data));
  return uint32_t(state) ^ 0xffffffffu;
}
#else
static uint32_t crc32c(uint32_t from, const char* data, size_t size) {
  static uint32_t table[256];
  static bool made = [] {
    for (uint32_t at = 0; at < 256; at++) {
      uint32_t value = at;
      for (int bit = 0; bit < 8; bit++) value = value & 1 ? value >> 1 ^ 0x82f63b78u : value >> 1;
      table[at] = value;
    }
    return true;
  }();
  (void)made;
  uint32_t state = from ^ 0xffffffffu;
  for (; size; data++, size--) state = table[(state ^ uint8_t(*data)) & 255] ^ state >> 8;
  return state ^ 0xffffffffu;
}
#endif
