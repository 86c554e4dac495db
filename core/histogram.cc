// Reading, merging and subtracting histograms.
#include "core/histogram.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace pulse {
namespace {

uint32_t* make_words(uint32_t words) {
    void* const made = std::calloc(words, sizeof(uint32_t));
    PULSE_ASSERT(made != nullptr);
    return static_cast<uint32_t*>(made);
}

}  // namespace

Histogram::~Histogram() {
    for (uint32_t page = 0; page < kPages; ++page) {
        if (reserved_ == nullptr) std::free(low_[page]);
        std::free(high_[page]);
    }
}

Histogram::Histogram(const Histogram& other) { merge(other); }

Histogram& Histogram::operator=(const Histogram& other) {
    if (this == &other) return *this;
    reset();
    merge(other);
    return *this;
}

Histogram& Histogram::operator=(Histogram&& other) noexcept {
    std::swap(low_, other.low_);
    std::swap(high_, other.high_);
    std::swap(reserved_, other.reserved_);
    std::swap(count_, other.count_);
    std::swap(sum_units_, other.sum_units_);
    std::swap(min_units_, other.min_units_);
    std::swap(max_units_, other.max_units_);
    return *this;
}

uint32_t* Histogram::make_page() { return make_words(kPageCounters); }

// In one piece, with as much again behind it, so that it is more than malloc() takes from its heap:
// it is mapped, and pages without values stay untouched.
void Histogram::reserve() {
    PULSE_ASSERT(count_ == 0);
    if (reserved_ != nullptr) return;
    for (uint32_t*& page : low_) std::free(page);
    reserved_.reset(make_words(2 * kCounters));
    for (uint32_t page = 0; page < kPages; ++page)
        low_[page] = reserved_.get() + size_t{page} * kPageCounters;
}

void Histogram::reset() {
    for_each([this](uint32_t counter, uint64_t) { set(counter, 0); });
    count_ = 0;
    sum_units_ = 0;
    min_units_ = UINT64_MAX;
    max_units_ = 0;
}

void Histogram::set(uint32_t counter, uint64_t count) {
    const auto high = static_cast<uint32_t>(count >> 32);
    word(low_, counter) = static_cast<uint32_t>(count);
    if (high != 0 || high_[counter / kPageCounters] != nullptr) word(high_, counter) = high;
}

// Where no high word is in use, nor will be: then so many are added at once.
void Histogram::add_page(uint32_t page, const Histogram& other) {
    const uint32_t* const others = other.low_[page];
    const uint32_t first = page * kPageCounters;
    uint32_t carries = 1;
    if (high_[page] == nullptr && other.high_[page] == nullptr) {
        uint32_t* const mine = &word(low_, first);
        carries = 0;
        for (uint32_t i = 0; i < kPageCounters; ++i)
            carries |= uint32_t{mine[i] + others[i] < mine[i]};
        if (carries == 0)
            for (uint32_t i = 0; i < kPageCounters; ++i) mine[i] += others[i];
    }
    if (carries == 0) return;
    for (uint32_t counter = first; counter < first + kPageCounters; ++counter)
        if (const uint64_t count = other.counter_at(counter); count != 0)
            set(counter, counter_at(counter) + count);
}

void Histogram::merge(const Histogram& other) {
    if (other.count_ == 0) return;
    const uint32_t last = counter_of(other.max_units_) / kPageCounters;
    for (uint32_t page = counter_of(other.min_units_) / kPageCounters; page <= last; ++page)
        if (other.has_values(page)) add_page(page, other);
    count_ += other.count_;
    sum_units_ += other.sum_units_;
    min_units_ = std::min(min_units_, other.min_units_);
    max_units_ = std::max(max_units_, other.max_units_);
}

void Histogram::subtract(const Histogram& earlier) {
    earlier.for_each([this](uint32_t counter, uint64_t count) {
        PULSE_ASSERT(counter_at(counter) >= count);
        set(counter, counter_at(counter) - count);
    });
    uint64_t min_units = UINT64_MAX;
    uint64_t max_units = 0;
    for_each([&](uint32_t counter, uint64_t) {
        if (min_units == UINT64_MAX) min_units = std::max(lowest_of(counter), min_units_);
        max_units = std::min(highest_of(counter), max_units_);
    });
    count_ -= earlier.count_;
    sum_units_ -= earlier.sum_units_;
    min_units_ = min_units;
    max_units_ = max_units;
}

double Histogram::mean() const {
    if (count_ == 0) return 0;
    return static_cast<double>(sum_units_) * kUnitNanos / static_cast<double>(count_);
}

Nanos Histogram::percentile(double percent) const {
    if (count_ == 0) return 0;
    // The next lower double: 99.9 is a little more than 999 of 1,000, and must not become 1,000.
    const double asked = std::nextafter(std::clamp(percent, 0.0, 100.0), 0.0);
    const double exact = std::ceil(asked * static_cast<double>(count_) / 100);
    const uint64_t wanted = std::clamp<uint64_t>(static_cast<uint64_t>(exact), 1, count_);
    uint64_t seen = 0;
    Nanos found = max();
    for_each([&](uint32_t counter, uint64_t count) {
        const bool before = seen < wanted;
        seen += count;
        if (before && seen >= wanted) found = to_nanos(std::min(highest_of(counter), max_units_));
    });
    return found;
}

}  // namespace pulse
