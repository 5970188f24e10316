// SPDX-License-Identifier: Apache-2.0
package com.example.employees;

import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Profile;
import org.springframework.kafka.core.KafkaOperations;
import org.springframework.kafka.listener.CommonErrorHandler;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.util.backoff.FixedBackOff;

/**
 * Variant 2, and the default: Spring Kafka's own recoverer. The record goes to {@code <topic>-dlt} with its bytes, and headers that
 * tell why. When Kafka does not take it, the recoverer throws, and the record comes again.
 */
@Configuration
@Profile("!sqs")
class FailuresToDeadLetterTopic {

    @Bean
    CommonErrorHandler errorHandler(KafkaOperations<?, ?> kafka) {
        // No tries of our own: they would hold up the partition, and meet the same conflict again. Redrive makes them.
        return new DefaultErrorHandler(new DeadLetterPublishingRecoverer(kafka), new FixedBackOff(0, 0));
    }
}
