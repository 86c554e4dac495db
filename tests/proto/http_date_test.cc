// Dates in HTTP fields.
#include "proto/http_date.h"

#include <gtest/gtest.h>

namespace pulse {
namespace {

TEST(HttpDates, AreReadInEachFormOfHttp) {
    constexpr int64_t kAt = 784'111'777, kNow = 1'445'412'480;  // 2015
    for (const char* date : {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
                             "Sun Nov  6 08:49:37 1994"})
        EXPECT_EQ(parse_http_date(date, kNow), kAt) << date;
    EXPECT_EQ(parse_http_date("Wed Nov 16 08:49:37 1994", kNow), kAt + 10 * 86'400);
    EXPECT_EQ(parse_http_date("Thursday, 01-Jan-65 00:00:00 GMT", kNow), 2'997'993'600) << "2065";
    EXPECT_EQ(parse_http_date("Friday, 01-Jan-66 00:00:00 GMT", kNow), -126'230'400) << "1966";
    EXPECT_EQ(parse_http_date("Thu, 29 Feb 2024 23:59:60 GMT", kNow), 1'709'251'200);
    EXPECT_EQ(parse_http_date("Thu, 01 Jan 1970 00:00:00 GMT", kNow), 0);
    EXPECT_EQ(parse_http_date("Mon, 01 Mar 2100 00:00:00 GMT", kNow), 4'107'542'400);
    for (const char* other : {"",
                              "7",
                              "1.5",
                              "Sun",
                              "Sun, ",
                              "Sun, 6 Nov 1994 08:49:37 GMT",
                              "Sun, 06 nov 1994 08:49:37 GMT",
                              "Sun, 06 Nov 94 08:49:37 GMT",
                              "Sun, 31 Feb 1994 08:49:37 GMT",
                              "Mon, 29 Feb 2100 08:49:37 GMT",
                              "Sun, 00 Nov 1994 08:49:37 GMT",
                              "Sun, 06 Nov 1994 24:49:37 GMT",
                              "Sun, 06 Nov 1994 08:60:37 GMT",
                              "Sun, 06 Nov 1994 08:49:61 GMT",
                              "Sun, 06 Nov 1994 08:49:37",
                              "Sun Nov 6 08:49:37 1994",
                              "Sun, 06 Nov 1994 08:49:37 GMT+1",
                              "Sun, 06 Nov 1994 08:49:37 CET",
                              "Sunday, 06-Nov-1994 08:49:37 GMT",
                              "Sun Nov  6 08:49:37 1994 GMT",
                              "1994-11-06T08:49:37Z",
                              "Sun, 06-Nov-94 08:49:37 GMT"})
        EXPECT_FALSE(parse_http_date(other, kNow)) << other;
}

}  // namespace
}  // namespace pulse
