// SPDX-License-Identifier: Apache-2.0
package com.example.employees;

import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.kafka.support.converter.ByteArrayJsonMessageConverter;
import org.springframework.kafka.support.converter.RecordMessageConverter;

@Configuration
class KafkaConfiguration {

    /**
     * Makes a message of a record's bytes just before the listener is called. A deserializer would do so earlier; this way a
     * record that cannot be read goes to the error handler as any other failure does, with the very bytes that came.
     */
    @Bean
    RecordMessageConverter messageConverter() {
        return new ByteArrayJsonMessageConverter();
    }
}
