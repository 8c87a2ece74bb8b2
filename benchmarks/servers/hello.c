/* A greeting at the price of two system calls: what it cannot serve, the load generator cannot ask for.
 *
 * usage: hello PORT. One thread, epoll, HTTP/1.1 with pipelining ignored: a read that ends with an empty line is one request.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS_MAX = 256, REQUEST_BYTES_MAX = 4096 };

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int poll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
}

static int listen_on(int port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
    if (listen(fd, EVENTS_MAX) < 0) fail("listen");
    return fd;
}

static void answer(int fd) {
    char request[REQUEST_BYTES_MAX];
    ssize_t size = read(fd, request, sizeof request);
    int is_whole = size >= 4 && memcmp(request + size - 4, "\r\n\r\n", 4) == 0;
    if (!is_whole || write(fd, ANSWER, sizeof ANSWER - 1) < 0) close(fd);
}

int main(int count, char **arguments) {
    if (count != 2) {
        fputs("usage: hello PORT\n", stderr);
        return 2;
    }
    int listener = listen_on(atoi(arguments[1])), poll = epoll_create1(0), on = 1;
    struct epoll_event events[EVENTS_MAX];
    watch(poll, listener);
    for (;;) {
        int ready = epoll_wait(poll, events, EVENTS_MAX, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd != listener) {
                answer(events[i].data.fd);
                continue;
            }
            int fd = accept(listener, NULL, NULL);
            if (fd < 0) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            watch(poll, fd);
        }
    }
}
