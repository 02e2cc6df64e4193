// Written by build_shaders.py from shaders/expert_down.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _372 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _375 = (THREADS * TOKENS);
constant uint _376 = (_375 * 2u);
constant uint _401 = (64u * TOKENS);
constant uint _437 = (64u * TOKENS);
constant bool _489 = (TOKENS > 1u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint expert_vectors;
    uint first_expert;
    uint experts;
    uint rows;
    uint cols;
    uint x_stride;
    uint y_stride;
    uint all_experts;
    uint classes;
    uint accumulate;
};

constant uint _550 = (TOKENS * 2u);

struct Route
{
    uint route[1];
};

constant uint _663 = (1u << TOKENS);
constant uint _664 = (_663 - 1u);
constant uint _677 = (64u * TOKENS);
constant bool _768 = (TOKENS == 1u);
constant bool _770 = (_768 && true);
constant int _771 = _770 ? 8 : 4;
constant uint _772 = (uint(_771) + 0u);
constant bool _847 = (TOKENS == 1u);
constant bool _848 = (_847 && true);
constant int _849 = _848 ? 8 : 4;
constant uint _850 = (uint(_849) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1018 = (TOKENS == 1u);
constant bool _1019 = (_1018 && true);
constant int _1020 = _1019 ? 8 : 4;
constant uint _1021 = (uint(_1020) + 0u);
constant uint _1046 = (8u * TOKENS);

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1094 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1094, 1u, 1u);

kernel void expert_down_int8(constant Push& p [[buffer(0)]], const device Weights& _113 [[buffer(1)]], const device X& _930 [[buffer(2)]], device Y& _1084 [[buffer(3)]], const device Route& _569 [[buffer(4)]], const device Step& _496 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_376];
    threadgroup float chunk_sums[_437];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_677];
    do
    {
        uint _488 = gl_WorkGroupID.y * TOKENS;
        bool _500;
        if (_489)
        {
            _500 = _488 >= _496.step_[0];
        }
        else
        {
            _500 = _489;
        }
        if (_500)
        {
            break;
        }
        uint _1106 = ((p.cols + 7u) / 8u) * 4u;
        uint _518 = THREADS / p.classes;
        uint _522 = gl_LocalInvocationID.x / _518;
        uint _526 = 64u / p.classes;
        uint _1114 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _542 = 16u + ((_1114 * p.classes) * 4u);
        float acc[16];
        for (uint _1512 = 0u; _1512 < _550; )
        {
            acc[_1512] = 0.0;
            _1512++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _569.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[8][1];
        uint pair[8];
        uint _1523;
        for (uint _1513 = 0u, _1524 = 1u; _1513 < _1106; _1524 = _1523, _1513 += _518)
        {
            _1523 = _1524;
            uint _1572;
            for (uint _1522 = 0u; _1522 < _1523; _1523 = _1572, _1522 += _526)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _1526;
                _1526 = gl_LocalInvocationID.x;
                for (; _1526 < 64u; _1526 += THREADS)
                {
                    uint _620 = ((_1526 / _526) * _1114) + min((_1522 + (_1526 % _526)), (_1114 - 1u));
                    uint _624 = 16u + (_620 * 4u);
                    uint _630 = _569.route[_624] - p.first_expert;
                    slot_expert[_1526] = _630;
                    uint _1574;
                    if (_630 < p.experts)
                    {
                        _1574 = (_569.route[_624 + uint((_488 < 32u) ? 1 : 2)] >> (_488 & 31u)) & _664;
                    }
                    else
                    {
                        _1574 = 0u;
                    }
                    slot_mask[_1526] = _1574;
                    for (uint _1575 = 0u; _1575 < TOKENS; )
                    {
                        slot_weight[(_1526 * TOKENS) + _1575] = as_type<float>(_569.route[((_542 + (_620 * 64u)) + _488) + _1575]);
                        _1575++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _1572 = _1523;
                for (uint _1527 = 0u; _1527 < p.classes; )
                {
                    _1572 = max(_1572, counts[_1527]);
                    _1527++;
                    continue;
                }
                uint _723 = _1513 + (gl_LocalInvocationID.x % _518);
                uint _727 = _522 * _526;
                uint _1532;
                if ((_723 < _1106) && (counts[_522] > _1522))
                {
                    _1532 = min((counts[_522] - _1522), _526);
                }
                else
                {
                    _1532 = 0u;
                }
                uint _1533;
                _1533 = 0u;
                bool _758;
                for (;;)
                {
                    _758 = _1533 < _1532;
                    if (_758)
                    {
                        bool _773 = 0u < _772;
                        bool _781;
                        if (_773)
                        {
                            _781 = _758;
                        }
                        else
                        {
                            _781 = _773;
                        }
                        bool _792;
                        if (_781)
                        {
                            _792 = slot_mask[_727 + _1533] != 0u;
                        }
                        else
                        {
                            _792 = _781;
                        }
                        if (_792)
                        {
                            uint _813 = (p.first + (slot_expert[_727 + _1533] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1503[1] = { _113.weights[_813 + _723] };
                            spvArrayCopyFromStackToStack1(raw[0u], _1503);
                            pair[0u] = ((device uint*)&_113.weights[_813 + _1106])[_723 & 3u];
                        }
                        bool _1727 = 1u < _772;
                        bool _1732;
                        if (_1727)
                        {
                            _1732 = (_1533 + 1u) < _1532;
                        }
                        else
                        {
                            _1732 = _1727;
                        }
                        bool _1740;
                        if (_1732)
                        {
                            _1740 = slot_mask[(_727 + _1533) + 1u] != 0u;
                        }
                        else
                        {
                            _1740 = _1732;
                        }
                        if (_1740)
                        {
                            uint _1757 = (p.first + (slot_expert[(_727 + _1533) + 1u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1765[1] = { _113.weights[_1757 + _723] };
                            spvArrayCopyFromStackToStack1(raw[1u], _1765);
                            pair[1u] = ((device uint*)&_113.weights[_1757 + _1106])[_723 & 3u];
                        }
                        bool _1776 = 2u < _772;
                        bool _1781;
                        if (_1776)
                        {
                            _1781 = (_1533 + 2u) < _1532;
                        }
                        else
                        {
                            _1781 = _1776;
                        }
                        bool _1789;
                        if (_1781)
                        {
                            _1789 = slot_mask[(_727 + _1533) + 2u] != 0u;
                        }
                        else
                        {
                            _1789 = _1781;
                        }
                        if (_1789)
                        {
                            uint _1806 = (p.first + (slot_expert[(_727 + _1533) + 2u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1814[1] = { _113.weights[_1806 + _723] };
                            spvArrayCopyFromStackToStack1(raw[2u], _1814);
                            pair[2u] = ((device uint*)&_113.weights[_1806 + _1106])[_723 & 3u];
                        }
                        bool _1825 = 3u < _772;
                        bool _1830;
                        if (_1825)
                        {
                            _1830 = (_1533 + 3u) < _1532;
                        }
                        else
                        {
                            _1830 = _1825;
                        }
                        bool _1838;
                        if (_1830)
                        {
                            _1838 = slot_mask[(_727 + _1533) + 3u] != 0u;
                        }
                        else
                        {
                            _1838 = _1830;
                        }
                        if (_1838)
                        {
                            uint _1855 = (p.first + (slot_expert[(_727 + _1533) + 3u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1863[1] = { _113.weights[_1855 + _723] };
                            spvArrayCopyFromStackToStack1(raw[3u], _1863);
                            pair[3u] = ((device uint*)&_113.weights[_1855 + _1106])[_723 & 3u];
                        }
                        bool _1874 = 4u < _772;
                        bool _1879;
                        if (_1874)
                        {
                            _1879 = (_1533 + 4u) < _1532;
                        }
                        else
                        {
                            _1879 = _1874;
                        }
                        bool _1887;
                        if (_1879)
                        {
                            _1887 = slot_mask[(_727 + _1533) + 4u] != 0u;
                        }
                        else
                        {
                            _1887 = _1879;
                        }
                        if (_1887)
                        {
                            uint _1904 = (p.first + (slot_expert[(_727 + _1533) + 4u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1912[1] = { _113.weights[_1904 + _723] };
                            spvArrayCopyFromStackToStack1(raw[4u], _1912);
                            pair[4u] = ((device uint*)&_113.weights[_1904 + _1106])[_723 & 3u];
                        }
                        bool _1923 = 5u < _772;
                        bool _1928;
                        if (_1923)
                        {
                            _1928 = (_1533 + 5u) < _1532;
                        }
                        else
                        {
                            _1928 = _1923;
                        }
                        bool _1936;
                        if (_1928)
                        {
                            _1936 = slot_mask[(_727 + _1533) + 5u] != 0u;
                        }
                        else
                        {
                            _1936 = _1928;
                        }
                        if (_1936)
                        {
                            uint _1953 = (p.first + (slot_expert[(_727 + _1533) + 5u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1961[1] = { _113.weights[_1953 + _723] };
                            spvArrayCopyFromStackToStack1(raw[5u], _1961);
                            pair[5u] = ((device uint*)&_113.weights[_1953 + _1106])[_723 & 3u];
                        }
                        bool _1972 = 6u < _772;
                        bool _1977;
                        if (_1972)
                        {
                            _1977 = (_1533 + 6u) < _1532;
                        }
                        else
                        {
                            _1977 = _1972;
                        }
                        bool _1985;
                        if (_1977)
                        {
                            _1985 = slot_mask[(_727 + _1533) + 6u] != 0u;
                        }
                        else
                        {
                            _1985 = _1977;
                        }
                        if (_1985)
                        {
                            uint _2002 = (p.first + (slot_expert[(_727 + _1533) + 6u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2010[1] = { _113.weights[_2002 + _723] };
                            spvArrayCopyFromStackToStack1(raw[6u], _2010);
                            pair[6u] = ((device uint*)&_113.weights[_2002 + _1106])[_723 & 3u];
                        }
                        bool _2021 = 7u < _772;
                        bool _2026;
                        if (_2021)
                        {
                            _2026 = (_1533 + 7u) < _1532;
                        }
                        else
                        {
                            _2026 = _2021;
                        }
                        bool _2034;
                        if (_2026)
                        {
                            _2034 = slot_mask[(_727 + _1533) + 7u] != 0u;
                        }
                        else
                        {
                            _2034 = _2026;
                        }
                        if (_2034)
                        {
                            uint _2051 = (p.first + (slot_expert[(_727 + _1533) + 7u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2059[1] = { _113.weights[_2051 + _723] };
                            spvArrayCopyFromStackToStack1(raw[7u], _2059);
                            pair[7u] = ((device uint*)&_113.weights[_2051 + _1106])[_723 & 3u];
                        }
                        for (uint _1537 = 0u; _1537 < 8u; _1537++)
                        {
                            bool _851 = _1537 >= _850;
                            bool _860;
                            if (!_851)
                            {
                                _860 = (_1533 + _1537) >= _1532;
                            }
                            else
                            {
                                _860 = _851;
                            }
                            if (_860)
                            {
                                continue;
                            }
                            uint _869 = (_727 + _1533) + _1537;
                            if (slot_mask[_869] == 0u)
                            {
                                continue;
                            }
                            uint _1159 = raw[_1537][0].x ^ 2155905152u;
                            float _1182 = as_type<float>((_1159 & 255u) | 1258291200u) - 8388736.0;
                            float _1190 = as_type<float>(((_1159 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                            float _1198 = as_type<float>(((_1159 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                            float _1206 = as_type<float>((_1159 >> uint(24)) | 1258291200u) - 8388736.0;
                            uint _2072 = raw[_1537][0].y ^ 2155905152u;
                            float _2076 = as_type<float>((_2072 & 255u) | 1258291200u) - 8388736.0;
                            float _2081 = as_type<float>(((_2072 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                            float _2086 = as_type<float>(((_2072 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                            float _2090 = as_type<float>((_2072 >> uint(24)) | 1258291200u) - 8388736.0;
                            uint _2102 = raw[_1537][0].z ^ 2155905152u;
                            float _2106 = as_type<float>((_2102 & 255u) | 1258291200u) - 8388736.0;
                            float _2111 = as_type<float>(((_2102 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                            float _2116 = as_type<float>(((_2102 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                            float _2120 = as_type<float>((_2102 >> uint(24)) | 1258291200u) - 8388736.0;
                            uint _2132 = raw[_1537][0].w ^ 2155905152u;
                            float _2136 = as_type<float>((_2132 & 255u) | 1258291200u) - 8388736.0;
                            float _2141 = as_type<float>(((_2132 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                            float _2146 = as_type<float>(((_2132 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                            float _2150 = as_type<float>((_2132 >> uint(24)) | 1258291200u) - 8388736.0;
                            uint _1211 = pair[_1537] & 65535u;
                            uint _1226 = _1211 & 32767u;
                            uint _1228 = _1226 << uint(13);
                            float _1243 = (_1226 < 1024u) ? (as_type<float>(947912704u | _1228) - 6.103515625e-05) : as_type<float>(_1228 + ((_1226 < 31744u) ? 939524096u : 1879048192u));
                            float _1544;
                            if ((_1211 & 32768u) != 0u)
                            {
                                _1544 = -_1243;
                            }
                            else
                            {
                                _1544 = _1243;
                            }
                            uint _1215 = pair[_1537] >> uint(16);
                            uint _1262 = _1215 & 32767u;
                            uint _1264 = _1262 << uint(13);
                            float _1279 = (_1262 < 1024u) ? (as_type<float>(947912704u | _1264) - 6.103515625e-05) : as_type<float>(_1264 + ((_1262 < 31744u) ? 939524096u : 1879048192u));
                            float _1545;
                            if ((_1215 & 32768u) != 0u)
                            {
                                _1545 = -_1279;
                            }
                            else
                            {
                                _1545 = _1279;
                            }
                            uint _904 = ((p.first_expert + slot_expert[_869]) * 64u) + _488;
                            for (uint _1546 = 0u; _1546 < TOKENS; _1546++)
                            {
                                uint _936 = p.x_stride * (_904 + _1546);
                                uint _1294 = (_723 >> uint(2)) * 2u;
                                uint _942 = _936 + _1294;
                                uint _2167 = _936 + (_1294 + 1u);
                                uint _961 = (_869 * TOKENS) + _1546;
                                uint _984 = _1546 * 2u;
                                bool _998 = ((slot_mask[_869] >> _1546) & 1u) != 0u;
                                float _1553;
                                if (_998)
                                {
                                    _1553 = fma(spvFMul(slot_weight[_961], _1544), fma(_2090, _930.x[_2167].w, fma(_2086, _930.x[_2167].z, fma(_2081, _930.x[_2167].y, fma(_2076, _930.x[_2167].x, fma(_1206, _930.x[_942].w, fma(_1198, _930.x[_942].z, fma(_1190, _930.x[_942].y, spvFMul(_1182, _930.x[_942].x)))))))), acc[_984]);
                                }
                                else
                                {
                                    _1553 = acc[_984];
                                }
                                acc[_984] = _1553;
                                uint _2251 = _984 + 1u;
                                float _2267;
                                if (_998)
                                {
                                    _2267 = fma(slot_weight[_961] * _1545, fma(_2150, _930.x[_2167].w, fma(_2146, _930.x[_2167].z, fma(_2141, _930.x[_2167].y, fma(_2136, _930.x[_2167].x, fma(_2120, _930.x[_942].w, fma(_2116, _930.x[_942].z, fma(_2111, _930.x[_942].y, _2106 * _930.x[_942].x))))))), acc[_2251]);
                                }
                                else
                                {
                                    _2267 = acc[_2251];
                                }
                                acc[_2251] = _2267;
                            }
                        }
                        _1533 += _1021;
                        continue;
                    }
                    else
                    {
                        break;
                    }
                }
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1514 = 0u; _1514 < _372; )
        {
            partial[(_1514 * THREADS) + gl_LocalInvocationID.x] = param[_1514];
            _1514++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1515 = gl_LocalInvocationID.x; _1515 < _401; _1515 += THREADS)
        {
            uint _1439 = (((_1515 / 32u) * THREADS) + ((_1515 / 8u) % 4u)) + (4u * (_1515 % 8u));
            float _1521;
            _1521 = partial[_1439];
            for (uint _1519 = 32u; _1519 < THREADS; )
            {
                _1521 = spvFAdd(_1521, partial[_1439 + _1519]);
                _1519 += 32u;
                continue;
            }
            chunk_sums[_1515] = _1521;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1039 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        bool _1047 = gl_LocalInvocationID.x >= _1046;
        bool _1056;
        if (!_1047)
        {
            _1056 = _1039 >= p.rows;
        }
        else
        {
            _1056 = _1047;
        }
        if (_1056)
        {
            break;
        }
        uint _1066 = ((_488 + (gl_LocalInvocationID.x / 8u)) * p.y_stride) + _1039;
        uint _1071 = gl_LocalInvocationID.x % 8u;
        uint _1480 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1071 % 2u)) * 4u) + (_1071 / 2u)) * 8u;
        float _1719 = (((((spvFAdd(chunk_sums[_1480], chunk_sums[_1480 + 1u]) + chunk_sums[_1480 + 2u]) + chunk_sums[_1480 + 3u]) + chunk_sums[_1480 + 4u]) + chunk_sums[_1480 + 5u]) + chunk_sums[_1480 + 6u]) + chunk_sums[_1480 + 7u];
        float _1518;
        if (p.accumulate != 0u)
        {
            _1518 = spvFAdd(_1719, _1084.y[_1066]);
        }
        else
        {
            _1518 = _1719;
        }
        _1084.y[_1066] = _1518;
        break;
    } while(false);
}

