// One request to the admin endpoint of a server, and its answer: HTTP/1.1 over TCP or a socket of
// the file system, a connection each.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/result.h"
#include "core/types.h"
#include "net/control/admin_address.h"

namespace pulse::ctl {

using Json = nlohmann::ordered_json;

struct Answer {
    int status = 0;
    std::string body;
    bool ok() const { return status >= 200 && status < 300; }
};

// One of a stream of Server-Sent Events.
struct Event {
    std::string name;
    std::string id;
    std::string data;
};

// Events from a stream in pieces of any size (HTML, 9.2.6).
class EventReader {
  public:
    // Calls on_event(event) for each that is whole now; false ends it.
    bool add(std::string_view piece, const std::function<bool(const Event&)>& on_event);

  private:
    std::string line_;
    Event event_;
};

class Client {
  public:
    Client(AdminAddress address, std::string token)
        : address_(std::move(address)), token_(std::move(token)) {}

    // Waits as long as the server takes. The error says that the server is not there, or went away,
    // and what to look at.
    Result<Answer> get(const std::string& target) { return ask("GET", target, ""); }
    Result<Answer> remove(const std::string& target) { return ask("DELETE", target, ""); }
    Result<Answer> post(const std::string& target, const Json& body) {
        return ask("POST", target, body.dump());
    }
    // The object that an answer is. The error is the server's: offender, reason and remedy.
    Result<Json> get_json(const std::string& target) { return json(get(target)); }
    Result<Json> post_json(const std::string& target, const Json& body) {
        return json(post(target, body));
    }
    static Result<Json> json(const Result<Answer>& answer);
    // Reads a stream of events until it ends, or on_event() returns false: then true. `last_id`: of
    // the last event that was had before; empty: none. The error is that of an answer which is not
    // such a stream, or of a server that is not there.
    Result<bool> follow(const std::string& target, const std::string& last_id,
                        const std::function<bool(const Event&)>& on_event);
    const std::string& address() const { return address_.text; }
    // Of the last request that failed: nothing listens on the address.
    bool nothing_listens() const { return nothing_listens_; }

  private:
    Result<Answer> ask(std::string_view method, const std::string& target, const std::string& body);
    Result<int> connect();
    std::string head(std::string_view method, const std::string& target) const;

    const AdminAddress address_;
    const std::string token_;
    bool nothing_listens_ = false;
};

// A text as a part of a query.
std::string percent_encoded(std::string_view text);

// The response in `text`, which is whole; an error where it is cut short, or not HTTP.
Result<Answer> parse_response(std::string_view text);

}  // namespace pulse::ctl
