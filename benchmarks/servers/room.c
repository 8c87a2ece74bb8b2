/* A room at the price of its system calls: what it cannot deliver, the load generator cannot hear.
 *
 * usage: room PORT. One thread, epoll. Every connection is in the one room, whatever it asks for. What begins with "GET /parties" is a
 * handshake, another GET is greeted, and the rest are messages of 64 bytes, masked with zeros, which go to everyone.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS_MAX = 256, SOCKETS_MAX = 4096, MESSAGE_BYTES = 64, MASKED_HEAD_BYTES = 6, HEAD_BYTES = 2, READ_BYTES = 1 << 16 };

static const char GREETING[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
static const char UPGRADE[] = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
static int sockets[SOCKETS_MAX], count;

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

static void leave(int fd) {
    close(fd);
    for (int i = 0; i < count; i++)
        if (sockets[i] == fd) sockets[i--] = sockets[--count];
}

static void tell(const unsigned char *message) {
    unsigned char frame[HEAD_BYTES + MESSAGE_BYTES] = {0x81, MESSAGE_BYTES};
    memcpy(frame + HEAD_BYTES, message, MESSAGE_BYTES);
    for (int i = 0; i < count; i++)
        if (write(sockets[i], frame, sizeof frame) < 0) perror("write");
}

static void serve(int fd) {
    unsigned char got[READ_BYTES];
    ssize_t size = read(fd, got, sizeof got);
    if (size <= 0) {
        leave(fd);
    } else if (memcmp(got, "GET /parties", 12) == 0 && count < SOCKETS_MAX) {
        if (write(fd, UPGRADE, sizeof UPGRADE - 1) > 0) sockets[count++] = fd;
    } else if (got[0] == 'G') {
        if (write(fd, GREETING, sizeof GREETING - 1) < 0) leave(fd);
    } else {
        for (ssize_t at = 0; at + MASKED_HEAD_BYTES + MESSAGE_BYTES <= size; at += MASKED_HEAD_BYTES + MESSAGE_BYTES)
            tell(got + at + MASKED_HEAD_BYTES);
    }
}

int main(int given, char **arguments) {
    if (given != 2) {
        fputs("usage: room PORT\n", stderr);
        return 2;
    }
    int listener = listen_on(atoi(arguments[1])), poll = epoll_create1(0), on = 1;
    struct epoll_event events[EVENTS_MAX];
    watch(poll, listener);
    for (;;) {
        int ready = epoll_wait(poll, events, EVENTS_MAX, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd != listener) {
                serve(events[i].data.fd);
                continue;
            }
            int fd = accept(listener, NULL, NULL);
            if (fd < 0) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            watch(poll, fd);
        }
    }
}
