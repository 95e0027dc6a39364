// Data for one receiver on the JS thread, gathered under a lock and delivered by one wake-up however often it changed.

#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "channel.h"

namespace mlxk {

class Mailbox : public Delivery, public std::enable_shared_from_this<Mailbox> {
 public:
  Mailbox(std::shared_ptr<Channel> channel, uint64_t id) : channel_(std::move(channel)), id_(id) {}

 protected:
  // Any thread: runs `change` under the lock, then makes sure that `deliver` follows.
  template <class Change>
  void put(Change&& change) {
    bool post = false;
    {
      const std::lock_guard lock(mutex_);
      change();
      post = !std::exchange(posted_, true);
    }
    if (post) channel_->post(shared_from_this());
  }

  // JS thread: runs `take` under the lock.
  template <class Take>
  void open(Take&& take) {
    const std::lock_guard lock(mutex_);
    posted_ = false;
    take();
  }

  uint64_t id() const { return id_; }

 private:
  std::shared_ptr<Channel> channel_;
  uint64_t id_;
  std::mutex mutex_;
  bool posted_ = false;
};

}  // namespace mlxk
