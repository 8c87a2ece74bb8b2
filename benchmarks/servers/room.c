/* A room at the price of its system calls: what it cannot deliver, the load generator cannot hear.
 *
 * usage: room PORT. One thread, epoll. Every connection is in the one room, whatever it asks for. What begins with "GET /parties" is a
 * handshake, another GET is greeted, and the rest are messages of 64 bytes, masked with zeros, which go to everyone.
 */
#include "serve.h"

enum { SOCKETS_MAX = 4096, MESSAGE_BYTES = 64, MASKED_HEAD_BYTES = 6, HEAD_BYTES = 2, READ_BYTES = 1 << 16 };

static const char GREETING[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
static const char UPGRADE[] = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
static int sockets[SOCKETS_MAX], count;

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
    serve_all(atoi(arguments[1]), serve);
}
