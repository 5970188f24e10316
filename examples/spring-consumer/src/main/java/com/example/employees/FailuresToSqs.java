// SPDX-License-Identifier: Apache-2.0
package com.example.employees;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.URI;
import java.util.Base64;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Profile;
import org.springframework.kafka.listener.CommonErrorHandler;
import org.springframework.kafka.listener.ConsumerRecordRecoverer;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.util.backoff.FixedBackOff;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.sqs.SqsClient;

/** Variant 1: a failure becomes plain JSON on an SQS queue, one message for each employee: {@code {"employeeId": 1234}}. */
@Configuration
@Profile("sqs")
class FailuresToSqs {

    private static final Logger log = LoggerFactory.getLogger(FailuresToSqs.class);

    @Bean
    SqsClient sqs(@Value("${redrive.sqs.region}") String region, @Value("${redrive.sqs.endpoint:}") String endpoint) {
        var builder = SqsClient.builder().region(Region.of(region));
        if (!endpoint.isEmpty()) {  // ElasticMQ, say; on AWS there is none to give
            builder.endpointOverride(URI.create(endpoint));
        }
        return builder.build();
    }

    @Bean
    CommonErrorHandler errorHandler(SqsClient sqs, ObjectMapper json, @Value("${redrive.sqs.queue}") String queue) {
        String queueUrl = sqs.getQueueUrl(request -> request.queueName(queue)).queueUrl();
        // The offset is committed after this has returned. When SQS does not take a message it throws, and the record comes
        // again: an employee may be sent twice, which Redrive makes one call of, but none is lost.
        ConsumerRecordRecoverer toRedrive = (record, exception) -> {
            bodies(record, json).forEach(body -> sqs.sendMessage(request -> request.queueUrl(queueUrl).messageBody(body)));
            log.warn("handed to Redrive: {}-{}@{}", record.topic(), record.partition(), record.offset(), exception);
        };
        // No tries of our own: they would hold up the partition, and meet the same conflict again. Redrive makes them.
        return new DefaultErrorHandler(toRedrive, new FixedBackOff(0, 0));
    }

    private static List<String> bodies(ConsumerRecord<?, ?> record, ObjectMapper json) {
        byte[] value = record.value() == null ? new byte[0] : (byte[]) record.value();
        try {
            List<EmployeeState> employees = json.readValue(value, EmployeesChanged.class).employees();
            return employees.stream().map(employee -> "{\"employeeId\": %d}".formatted(employee.id())).toList();
        } catch (IOException | NullPointerException unreadable) {
            // Nobody knows whom this is about. Redrive keeps what it cannot read, among its rejects, until somebody mends it.
            return List.of("{\"unreadable\": \"%s\"}".formatted(Base64.getEncoder().encodeToString(value)));
        }
    }
}
