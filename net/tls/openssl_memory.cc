// OpenSSL's malloc(), with a sum for each thread.
#include "net/tls/openssl_memory.h"

#include <malloc.h>
#include <openssl/crypto.h>

#include <cstdlib>
#include <cstring>

namespace pulse {
namespace {

bool is_counted = false;  // written before there are threads
thread_local int64_t held_bytes = 0;
thread_local bool wipes_freed = false;

// glibc keeps a block's size in front of it.
int64_t bytes_of(void* block) {
    return block == nullptr ? 0 : static_cast<int64_t>(malloc_usable_size(block) + sizeof(size_t));
}

void* take(size_t bytes, const char*, int) {
    void* const block = std::malloc(bytes);
    held_bytes += bytes_of(block);
    return block;
}

void give_back(void* block, const char*, int) {
    held_bytes -= bytes_of(block);
    if (wipes_freed && block != nullptr) explicit_bzero(block, malloc_usable_size(block));
    std::free(block);
}

// OpenSSL leaves to this what it handles by itself otherwise: no block, and no bytes.
void* take_again(void* block, size_t bytes, const char* file, int line) {
    if (bytes == 0) {
        give_back(block, file, line);
        return nullptr;
    }
    const int64_t before = bytes_of(block);
    void* const moved = std::realloc(block, bytes);
    if (moved != nullptr) held_bytes += bytes_of(moved) - before;
    return moved;
}

}  // namespace

bool count_openssl_memory() {
    is_counted = CRYPTO_set_mem_functions(&take, &take_again, &give_back) == 1;
    return is_counted;
}
bool openssl_memory_is_counted() { return is_counted; }

WipedFrees::WipedFrees() { wipes_freed = true; }
WipedFrees::~WipedFrees() { wipes_freed = false; }

int64_t openssl_memory_bytes() { return held_bytes; }

}  // namespace pulse
