/* Load for rooms: sockets that all hear what one of them says.
 *
 * usage: sockets PORT PATH SOCKETS WINDOW SECONDS. Opens SOCKETS WebSockets on PATH. The first one sends messages of 64 bytes, each with
 * its number in front, WINDOW of them under way: hearing one of its own is the leave to send another. After SECONDS it stops, and every
 * socket must have heard all messages, in order. One thread, epoll. Ends with a line of figures: messages, deliveries, microseconds from
 * the first message to the last delivery, percentiles in microseconds of the time from sending a message to hearing it oneself.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_BYTES = 64, MASKED_HEAD_BYTES = 6, HEAD_BYTES = 2, BUFFER_BYTES = 1 << 16, EVENTS_MAX = 256, STALL_MS = 10000 };
enum { SENT_MAX = 1 << 24 };

struct socket {
    int fd;
    uint32_t heard;
    size_t used;
    unsigned char buffer[BUFFER_BYTES];
};

static uint64_t *sent_ns; /* by number of the message */
static uint32_t *took_us;
static uint32_t sent;

static void fail(const char *what) {
    fprintf(stderr, "sockets: %s\n", what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int open_socket(int port, const char *path) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("the server refuses a connection");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    char head[4096];
    int size = snprintf(head, sizeof head,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                        path, port);
    if (write(fd, head, (size_t)size) != size) fail("a handshake could not be sent");
    size_t used = 0;
    for (;;) { /* byte by byte, so that a message behind the answer is left for later */
        if (read(fd, head + used, 1) != 1) fail("the server closed a connection in its handshake");
        if (++used >= 4 && memcmp(head + used - 4, "\r\n\r\n", 4) == 0) break;
        if (used == sizeof head) fail("the answer to a handshake has no end");
    }
    if (strncmp(head, "HTTP/1.1 101", 12) != 0) fail("the server refuses a handshake");
    return fd;
}

static void say(int fd) {
    unsigned char frame[MASKED_HEAD_BYTES + MESSAGE_BYTES] = {0x81, 0x80 | MESSAGE_BYTES}; /* masked with zeros */
    if (sent == SENT_MAX) fail("more messages than were reckoned with");
    memset(frame + MASKED_HEAD_BYTES, '.', MESSAGE_BYTES);
    char number[16];
    int digits = snprintf(number, sizeof number, "%010u", sent);
    memcpy(frame + MASKED_HEAD_BYTES, number, (size_t)digits);
    sent_ns[sent++] = now_ns();
    if (write(fd, frame, sizeof frame) != (ssize_t)sizeof frame) fail("a message could not be sent");
}

/* Take the whole frames from the buffer. Returns how many messages they were. */
static uint32_t hear(struct socket *self) {
    size_t at = 0;
    uint32_t count = 0;
    while (self->used - at >= HEAD_BYTES) {
        unsigned char *frame = self->buffer + at;
        size_t size = frame[1];
        if (size > 125) fail("a frame is not one that was asked for");
        if (self->used - at < HEAD_BYTES + size) break;
        at += HEAD_BYTES + size;
        if (frame[0] != 0x81) { /* a ping, say */
            if ((frame[0] & 0x0f) == 8) fail("the server closed a socket");
            continue;
        }
        char number[11] = {0};
        memcpy(number, frame + HEAD_BYTES, 10);
        if (size != MESSAGE_BYTES || (uint32_t)strtoul(number, NULL, 10) != self->heard) fail("a message is not the next one");
        self->heard++;
        count++;
    }
    self->used -= at;
    memmove(self->buffer, self->buffer + at, self->used);
    return count;
}

static int by_size(const void *one, const void *other) {
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

int main(int count, char **arguments) {
    if (count != 6) {
        fputs("usage: sockets PORT PATH SOCKETS WINDOW SECONDS\n", stderr);
        return 2;
    }
    int port = atoi(arguments[1]), sockets = atoi(arguments[3]), window = atoi(arguments[4]), seconds = atoi(arguments[5]);
    int poll = epoll_create1(0);
    struct socket *all = calloc((size_t)sockets, sizeof *all);
    sent_ns = malloc(SENT_MAX * sizeof *sent_ns);
    took_us = malloc(SENT_MAX * sizeof *took_us);
    if (all == NULL || sent_ns == NULL || took_us == NULL) fail("not enough memory");
    for (int i = 0; i < sockets; i++) {
        all[i].fd = open_socket(port, arguments[2]);
        struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = &all[i]}};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event) < 0) fail("epoll_ctl");
    }
    uint64_t began = now_ns(), end = began + (uint64_t)seconds * 1000000000u, delivered = 0, now = began;
    for (int i = 0; i < window; i++) say(all[0].fd);
    while (delivered < (uint64_t)sent * (uint64_t)sockets) {
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_wait(poll, events, EVENTS_MAX, STALL_MS);
        if (ready <= 0) fail("a message has not arrived");
        for (int i = 0; i < ready; i++) {
            struct socket *self = events[i].data.ptr;
            ssize_t size = read(self->fd, self->buffer + self->used, BUFFER_BYTES - self->used);
            if (size <= 0) fail("the server closed a connection");
            self->used += (size_t)size;
            uint32_t first = self->heard, heard = hear(self);
            delivered += heard;
            if (self != all) continue;
            now = now_ns();
            for (uint32_t n = first; n < first + heard; n++) {
                took_us[n] = (uint32_t)((now - sent_ns[n]) / 1000);
                if (now < end) say(self->fd);
            }
        }
    }
    now = now_ns();
    qsort(took_us, sent, sizeof *took_us, by_size);
    printf("figures messages=%u deliveries=%llu microseconds=%llu p50=%u p99=%u\n", sent, (unsigned long long)delivered,
           (unsigned long long)((now - began) / 1000), took_us[(sent - 1) / 2], took_us[(uint64_t)(sent - 1) * 99 / 100]);
    return 0;
}
