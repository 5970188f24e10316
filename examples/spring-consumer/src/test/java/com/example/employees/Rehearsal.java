// SPDX-License-Identifier: Apache-2.0
package com.example.employees;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.Socket;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.Header;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.context.annotation.Profile;
import org.springframework.kafka.listener.RecordInterceptor;
import org.springframework.stereotype.Component;
import org.springframework.transaction.TransactionExecution;
import org.springframework.transaction.TransactionExecutionListener;

/**
 * Makes conflicts certain instead of a matter of luck, from outside of the application: Spring tells it of each record and of
 * each commit. Two messages with the same header {@code meeting} wait for each other when both have read and neither has written.
 *
 * <p>The meeting place is a socket: a party sends the seconds that it has and the name of the meeting, and gets a line when the
 * other has come, or when the time is over.
 */
@Component
@Profile("rehearsal")
class Rehearsal implements RecordInterceptor<Object, Object>, TransactionExecutionListener {

    private static final Logger log = LoggerFactory.getLogger(Rehearsal.class);
    private static final int PATIENCE_SECONDS = 10;

    private final ThreadLocal<String> meeting = new ThreadLocal<>();
    private final int port;

    Rehearsal(@Value("${rehearsal.port}") int port) {
        this.port = port;
    }

    @Override
    public ConsumerRecord<Object, Object> intercept(ConsumerRecord<Object, Object> record, Consumer<Object, Object> consumer) {
        Header header = record.headers().lastHeader("meeting");
        meeting.set(header == null ? null : new String(header.value()));
        return record;
    }

    @Override
    public void beforeCommit(TransactionExecution transaction) {
        String name = meeting.get();
        if (name == null) {
            return;
        }
        meeting.remove();
        try (Socket place = new Socket(InetAddress.getLoopbackAddress(), port)) {
            place.getOutputStream().write("%d %s\n".formatted(PATIENCE_SECONDS, name).getBytes());
            log.info("meeting {}: {}", name, new BufferedReader(new InputStreamReader(place.getInputStream())).readLine());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
