// The reactors of a server, for threads that ask something of them and are not the main one.
#pragma once

#include <cstdint>

#include "core/message.h"

namespace pulse {

// Any thread; calls may come at once.
class Reactors {
  public:
    virtual uint32_t count() const = 0;
    // The reactor's thread handles nothing any more, and acknowledges nothing.
    virtual bool ended(uint32_t reactor) const = 0;
    // False: its mailbox is full, nothing was posted.
    virtual bool post(uint32_t reactor, const Message& message) = 0;

  protected:
    ~Reactors() = default;
};

}  // namespace pulse
